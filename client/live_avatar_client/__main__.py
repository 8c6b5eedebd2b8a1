"""`python -m live_avatar_client` is `live-avatar`."""

from live_avatar_client.command import main

main()
