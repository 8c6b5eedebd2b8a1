"""The two encoders of the demo, which stay frozen afterwards."""
