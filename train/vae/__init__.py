"""The VAE of the demo."""
