"""A visitor with 10,000 requests of 1 ms of sound, in a process of its own: beside the people who
talk it would take their time, and not the server's.

    python -m tests.faults.flood ADDRESS
"""

import sys
import time
from types import SimpleNamespace

import numpy as np

from tests.support.raw_stream import IMAGE, Stream

NUM_REQUESTS = 10_000


def main() -> None:
    visitor = Stream(SimpleNamespace(grpc_url=sys.argv[1]))  # type: ignore[arg-type]
    began = time.monotonic()
    assert visitor.ask(start=True, image=IMAGE) == (0, "")
    for _ in range(NUM_REQUESTS):
        visitor.send(audio=np.zeros(16, np.float32))
    failed = [said for _, said in (visitor.answer() for _ in range(NUM_REQUESTS)) if said]
    took_s = time.monotonic() - began
    assert visitor.ask(end=True)[1] == ""
    visitor.close()
    assert not failed, failed[0]
    print(f"all answered after {took_s:.1f} s")


if __name__ == "__main__":
    main()
