"""Clips of the drawn world as the DiT sees them."""
