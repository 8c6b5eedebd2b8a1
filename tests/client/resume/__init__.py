"""Sessions whose server is lost or full."""
