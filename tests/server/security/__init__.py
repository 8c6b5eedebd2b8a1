"""What the real server keeps from strangers."""
