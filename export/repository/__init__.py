"""From graphs or plans to a Triton model repository."""
