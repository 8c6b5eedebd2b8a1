"""Ours beside what a user would run instead: same weights, same caches, a process each."""
