"""Text to video: clips of scenes, the teacher that learns from them, and its students."""
