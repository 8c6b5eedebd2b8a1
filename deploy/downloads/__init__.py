"""Programs that are unpacked into build/ rather than installed."""
