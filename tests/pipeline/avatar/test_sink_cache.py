"""The sink cache's integers."""

from dataclasses import replace

import pytest

from pipeline.avatar.sink_cache import SinkCache
from tests.support.fake_executor import CONFIG

SMALL = replace(CONFIG, window_blocks=4)
FRAME = SMALL.tokens_per_frame
BLOCK = SMALL.tokens_per_block
SINK = SMALL.num_sink_tokens


def test_blocks_fill_the_ring_in_order_and_then_evict_the_oldest() -> None:
    """A block would overwrite one that attention still needs."""
    cache = SinkCache(SMALL)
    plans = [cache.plan(block, 30) for block in range(10)]
    assert [p.slot for p in plans] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert [p.write_index for p in plans[:5]] == [SINK + s * BLOCK for s in (0, 1, 2, 3, 0)]


def test_valid_tokens_are_a_prefix_that_grows_to_the_whole_cache() -> None:
    """Attention would see slots that were never written."""
    cache = SinkCache(SMALL)
    assert [cache.plan(b, 30).valid_tokens - SINK for b in range(6)] == [
        BLOCK * n for n in (1, 2, 3, 4, 4, 4)
    ]
    assert cache.plan(5, 30).valid_tokens == SMALL.cache_len


def test_sink_slots_are_never_written_by_a_block() -> None:
    """The sink would be evicted and identity with it."""
    cache = SinkCache(SMALL)
    for block in range(1000):
        plan = cache.plan(block, 4)
        assert plan.write_index >= SINK
        assert plan.write_index + BLOCK <= SMALL.cache_len


@pytest.mark.parametrize(
    ("block", "distance", "position"),
    [(0, 4, 30), (3, 25, 34), (7, 26, 47), (8, 6, 30), (9, 4, 31), (10**8, 30, 3 * 10**8 + 30)],
)
def test_reference_rolls_ahead_once_the_video_has_grown_past_it(
    block: int, distance: int, position: int
) -> None:
    """max(30, current + distance), without a limit on length."""
    assert SinkCache(SMALL).plan(block, distance).reference_position == position


def test_a_query_sees_itself_and_the_blocks_of_the_window() -> None:
    """The history would be longer or shorter than the ring."""

    def visible(block: int) -> list[int]:
        plans = [SinkCache(SMALL).plan(b, 30) for b in range(block + 1)]
        ring = {plan.slot: plan.block for plan in plans}
        seen = (plans[-1].valid_tokens - SMALL.num_sink_tokens) // SMALL.tokens_per_block
        return sorted(ring[slot] for slot in range(seen))

    assert visible(0) == [0]
    assert visible(9) == [6, 7, 8, 9]


def test_a_ring_that_begins_anew_fills_as_that_of_a_new_session() -> None:
    """A re-anchored block would see slots of before, or its positions would jump."""
    cache = SinkCache(SMALL)
    for block in range(6, 16):
        anew, first = cache.plan(block, 30, ring_start=6), cache.plan(block - 6, 30)
        assert (anew.slot, anew.valid_tokens) == (first.slot, first.valid_tokens)
        assert anew.write_index == first.write_index
        assert anew.first_frame == block * SMALL.frames_per_block
    with pytest.raises(ValueError, match="block is 5, wanted 0 or more; its ring begins at 6"):
        cache.plan(5, 30, ring_start=6)


@pytest.mark.parametrize("distance", [-1, 31])
def test_a_distance_outside_the_range_is_named(distance: int) -> None:
    """A typo would silently move the sink."""
    with pytest.raises(ValueError, match=rf"sink_distance is {distance}, wanted 0\.\.30"):
        SinkCache(SMALL).plan(0, distance)


def test_the_ring_tells_where_each_block_that_is_seen_stands() -> None:
    """A session that is back would see its past at the positions of a new one."""
    cache, frames = SinkCache(SMALL), SMALL.frames_per_block
    rings = {block: cache.plan(block, 30, ring_start=2).ring for block in (2, 4, 9)}
    assert rings[2] == ((0, 2 * frames),)
    assert rings[4] == tuple((slot, (2 + slot) * frames) for slot in range(3))
    assert rings[9] == ((0, 6 * frames), (1, 7 * frames), (2, 8 * frames), (3, 9 * frames))
