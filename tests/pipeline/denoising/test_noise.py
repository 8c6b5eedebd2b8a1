"""Randomness is a function of seed, block and step."""

import numpy as np

from pipeline.denoising.noise import block_noise, seeded_sink_distance

SHAPE = (1, 16, 3, 8, 8)
STORED = [0.0199594, -0.6709492, 0.4773510, 0.7395869]


def test_a_block_has_the_same_noise_whenever_it_is_asked_for() -> None:
    """A stream could not be resumed, nor shared fairly."""
    late = block_noise(5, 7, SHAPE)
    for block in range(7):
        block_noise(5, block, SHAPE)
    np.testing.assert_array_equal(block_noise(5, 7, SHAPE), late)


def test_values_are_stored_so_that_a_library_cannot_change_them() -> None:
    """Another version of numpy would give every seed another video."""
    noise = block_noise(420, 3, SHAPE).ravel()
    np.testing.assert_allclose(noise[:4], STORED, atol=1e-6)


def test_noise_is_standard_normal_and_differs_by_seed_and_block() -> None:
    """Blocks that share noise move alike."""
    noise = np.stack([block_noise(seed, b, SHAPE) for seed in (0, 1, -1) for b in range(20)])
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    correlation = np.corrcoef(noise.reshape(len(noise), -1)) - np.eye(len(noise))
    assert np.abs(correlation).max() < 0.1


def test_sink_distances_cover_their_range_and_nothing_else() -> None:
    """The reference would stand nearer than training ever saw it."""
    drawn = np.concatenate([seeded_sink_distance(3, block, 4, 4, 30) for block in range(400)])
    assert set(drawn) == set(range(4, 31))
