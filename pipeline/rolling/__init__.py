"""Rolling Forcing: a prompt in, a joint window of blocks, frames out."""
