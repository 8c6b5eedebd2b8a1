"""The drawn world that the demo learns from: faces, voices, and what is true of them."""
