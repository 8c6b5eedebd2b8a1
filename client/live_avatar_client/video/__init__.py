"""What is written: a video file that appears when it is whole."""
