"""One file per question that a measurement answers."""
