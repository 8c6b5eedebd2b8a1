"""The judgement of a trained avatar."""
