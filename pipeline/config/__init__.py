"""The numbers of a deployment. Standard library only."""
