"""Faces for voice agents of other frameworks; each module needs the extra of its name."""
