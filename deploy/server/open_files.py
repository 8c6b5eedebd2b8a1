"""How many files, sockets among them, the server may hold open: `ulimit -n`."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

WANTED = 256
"""A server with all models of both tenants holds 79 and one more for each client."""
_PLENTY = 65536  # some programs close every number up to the limit, one by one


def check() -> None:
    """`RuntimeError` if even the hard limit is too low."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < WANTED:
        raise RuntimeError(
            f"a process may open {hard} files here (ulimit -Hn), the server wants {WANTED}: raise "
            "the limit in /etc/security/limits.conf, or docker run --ulimit nofile=1024"
        )


@contextmanager
def raised() -> Iterator[None]:
    """For what is started meanwhile, the soft limit is as high as the hard one allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = _PLENTY if hard == resource.RLIM_INFINITY else min(hard, _PLENTY)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
