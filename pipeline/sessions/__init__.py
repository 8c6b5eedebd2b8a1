"""What the public models share: requests, sessions, answers, order."""
