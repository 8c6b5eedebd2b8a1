"""`live-avatar` begins here: Ctrl-C while the libraries load ends in one line, too."""

import sys


def main() -> None:
    """Load the command line and run it."""
    try:
        from live_avatar_client.command.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(130)
    run()
