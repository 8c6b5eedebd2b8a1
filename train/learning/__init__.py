"""What every training shares: its loop, its devices, its optimiser, its curve."""
