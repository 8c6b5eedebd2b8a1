"""The few-step student."""
