"""`live-avatar` begins here: Ctrl-C while the libraries load ends in one line, too."""

import os
import signal
import sys


def main() -> None:
    """Load the command line and run it."""
    before = signal.getsignal(signal.SIGINT)
    if before != signal.SIG_IGN:
        # No exception: one that falls into a finaliser of the imports is printed and forgotten.
        signal.signal(signal.SIGINT, lambda *_: _leave())
    from live_avatar_client.command.cli import main as run

    signal.signal(signal.SIGINT, before)
    run()


def _leave() -> None:
    sys.stderr.write("stopped\n")
    sys.stderr.flush()
    os._exit(128 + signal.SIGINT)
