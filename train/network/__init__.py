"""The avatar's DiT on batches and on streams, in torch."""
