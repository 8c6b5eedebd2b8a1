"""Sound of any file, as the mono 16 kHz chunks that a session takes."""
