"""Training of the demo avatar: its world of drawn talking heads, and what learns from it."""
