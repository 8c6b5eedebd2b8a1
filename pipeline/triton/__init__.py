"""All that knows Triton: its models, its calls, its parameters."""
