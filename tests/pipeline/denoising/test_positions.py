"""Facts of positions and their tables that need no fixtures."""

import pytest

from pipeline.denoising.positions import axis_pairs, grid


def test_pairs_of_the_released_head_split_as_22_21_21() -> None:
    """Weights trained for one split are nonsense under another."""
    assert axis_pairs(128) == (22, 21, 21)


@pytest.mark.parametrize("head_dim", [32, 64, 128])
def test_every_pair_of_a_head_belongs_to_one_axis(head_dim: int) -> None:
    """Tables would be narrower than the head."""
    assert sum(axis_pairs(head_dim)) == head_dim // 2


def test_coarse_buckets_span_the_whole_picture() -> None:
    """Motion tokens would sit in one corner."""
    for shrink in (2, 4):
        positions = grid((-3,), (8, 12), shrink)
        assert positions[:, 1].max() == 7
        assert positions[:, 2].max() == 11
        assert len(positions) == 8 * 12 // shrink**2
