"""Claims about graphs and plans, tested without a GPU as far as it goes."""
