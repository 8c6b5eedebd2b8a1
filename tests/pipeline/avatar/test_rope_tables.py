"""Facts of the RoPE tables of the avatar's cache that need no fixtures."""

import numpy as np
import pytest

from networks.presets import PRESETS
from pipeline.avatar.rope_tables import RopeTables

CONFIG = PRESETS["demo"].pipeline


def test_attention_depends_on_distance_only_even_after_years() -> None:
    """Long streams would drift: 10^7 latent frames are 18 days; float32 angles fail by then."""
    near, far = RopeTables(CONFIG), RopeTables(CONFIG)
    for start, rope in ((30, near), (10_000_000, far)):
        rope.write_block(0, start)
        rope.place_reference(start + 10)

    def relative(rope: RopeTables, start: int) -> np.ndarray:
        cos_q, sin_q = rope.block_tables(start)
        turn = (cos_q + 1j * sin_q)[:, :1].conj()
        end = CONFIG.num_sink_tokens + CONFIG.tokens_per_block
        keys = (rope.cos_k + 1j * rope.sin_k)[:, :end]
        moved = np.r_[0 : CONFIG.tokens_per_frame, CONFIG.num_sink_tokens : end]
        return (keys * turn)[:, moved]

    # Products of float32 tables: a few 2^-24 each.
    assert np.abs(relative(near, 30) - relative(far, 10_000_000)).max() < 1e-6


def test_updates_keep_the_buffers_and_touch_one_slot() -> None:
    """An engine that was bound to the buffers once would read stale tables."""
    rope = RopeTables(CONFIG)
    buffer, before = rope.cos_k, rope.cos_k.copy()
    rope.write_block(2, 600)
    changed = np.flatnonzero((rope.cos_k != before).any(axis=(0, 2)))
    start = CONFIG.num_sink_tokens + 2 * CONFIG.tokens_per_block
    assert rope.cos_k is buffer
    assert changed.min() >= start
    assert changed.max() < start + CONFIG.tokens_per_block


def test_reset_gives_the_tables_of_a_new_stream() -> None:
    """A second stream would see the first one's positions."""
    rope, fresh = RopeTables(CONFIG), RopeTables(CONFIG)
    rope.write_block(1, 99)
    rope.place_reference(77)
    rope.reset()
    assert np.array_equal(rope.cos_k, fresh.cos_k)
    assert np.array_equal(rope.sin_k, fresh.sin_k)


def test_a_slot_outside_the_ring_is_refused() -> None:
    """The sink's tables would be overwritten in silence."""
    with pytest.raises(ValueError, match=r"ring slot is 4, wanted 0\.\.3"):
        RopeTables(CONFIG).write_block(4, 0)
