"""Set-up and the local server. Standard library only: it runs before anything is installed."""
