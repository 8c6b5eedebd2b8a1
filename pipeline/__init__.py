"""The server's code, which stands in every Python model of the repository."""
