"""What a server needs of a machine, what is here, and how to fix what is missing."""
