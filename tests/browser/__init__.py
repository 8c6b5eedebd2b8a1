"""The gateway's page in a real browser, before the real server. Run by `make test-browser`."""
