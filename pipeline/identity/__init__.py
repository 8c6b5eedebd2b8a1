"""What models and files are, and whether those of a repository belong together."""
