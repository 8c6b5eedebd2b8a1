"""Mathematics that both systems share: noise levels, noise, positions."""
