"""Released weights: read, checked, merged, written."""
