"""A Triton server on this machine: how it starts, what is seen of it, how it ends."""
