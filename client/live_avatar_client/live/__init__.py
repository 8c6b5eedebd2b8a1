"""Live conversations: an idle face that answers at once, and can be interrupted."""
