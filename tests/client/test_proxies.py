"""Calls when the environment names a proxy."""

import pytest

from live_avatar_client import AvatarError, proxies
from live_avatar_client.stream import check_health
from tests.support.fake_avatar_server import FakeAvatar, serving

VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy", "no_proxy", "no_grpc_proxy")
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_this_machine_is_reached_past_a_proxy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In many companies' shells `make demo` would look for its own server at the proxy."""
    monkeypatch.setenv(name, NOWHERE)
    with serving(FakeAvatar()) as url:
        assert check_health(url).model_ready
        assert check_health(url.replace("127.0.0.1", "localhost")).model_ready


@pytest.mark.parametrize("name", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_an_error_behind_a_proxy_names_its_variable(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader would look at a server that is well; the proxy's password stays secret."""
    monkeypatch.setenv(name, "http://user:secret@127.0.0.1:9")
    with pytest.raises(AvatarError, match=f"variable {name} .*avatar.example.*no_proxy") as error:
        check_health("avatar.example:8001", timeout_s=2)
    assert "secret" not in str(error.value)


def test_a_host_that_goes_past_the_proxy_is_not_blamed_on_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The hint would send the reader the wrong way."""
    monkeypatch.setenv("http_proxy", NOWHERE)
    monkeypatch.setenv("no_proxy", "avatar.example")
    assert proxies.hint("avatar.example:8001") is None
    assert proxies.hint("other.example:8001") is not None


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("127.0.0.1:8001", True),
        ("127.8.9.10:8001", True),
        ("localhost:8001", True),
        ("[::1]:8001", True),
        ("dns:///localhost:8001", True),
        ("unix:/run/triton.sock", True),
        ("unix-abstract:triton", True),
        ("LOCALHOST:8001", True),
        ("localhost.:8001", True),
        ("dns:localhost:8001", True),
        ("ipv4:127.0.0.1:8001", True),
        ("ipv6:[::1]:8001", True),
        ("[::ffff:127.0.0.1]:8001", True),
        ("ipv4:10.0.0.1:8001", False),
        ("0.0.0.0:8001", True),
        ("10.0.0.1:8001", False),
        ("example.com:8001", False),
        ("localhost.example.com:8001", False),
        ("[2001:db8::1]:8001", False),
        ("", False),
    ],
)
def test_which_addresses_are_this_machine(url: str, local: bool) -> None:
    """A remote server would be called past a proxy that it needs, or the reverse."""
    assert proxies.is_local(url) is local
