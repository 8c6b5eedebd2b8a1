"""Two thousand blocks of one stream on a tiny network: nothing grows, nothing drifts away."""

import numpy as np
import psutil
import pytest

pytest.importorskip("torch", reason="the window runs a network of torch")

from networks.causal_wan import CausalWan
from networks.checkpoint import build_seeded
from pipeline.denoising.noise import block_noise
from tests.pipeline.rolling.test_window import CONFIG, STREAM, stage_of, text_of

NUM_BLOCKS = 2000
RELEASE_LIMIT = 341
"""Blocks after which the release's table of 1024 temporal positions ends."""


def test_two_thousand_blocks_leave_memory_flat_and_positions_small() -> None:
    """An endless stream must not grow, nor end where the release's position table does."""
    stage = stage_of(build_seeded(lambda: CausalWan(CONFIG.wan), seed=1))
    shape = STREAM.latent_shape
    stage.open(0, text_of(0), lambda block, level: block_noise(0, block, shape, level))
    spread, mean, memory = [], [], 0
    while len(spread) < NUM_BLOCKS:
        if (done := stage.step(0)) is None:
            continue
        assert np.isfinite(done.latent).all()
        spread.append(float(done.latent.std()))
        mean.append(float(done.latent.mean()))
        if done.block == RELEASE_LIMIT:
            memory = psutil.Process().memory_info().rss
    grown_mb = (psutil.Process().memory_info().rss - memory) / 2**20
    assert grown_mb < 5
    state = stage.sessions[0]
    tick = state.plan.tick(state.next_tick)
    assert max(each.position for each in tick.denoise) < STREAM.span_frames
    early, late = slice(20, 320), slice(NUM_BLOCKS - 300, NUM_BLOCKS)
    # Two samples of one distribution: 300 blocks each, whose means differ by a tenth of the range.
    for values in (spread, mean):
        room = np.ptp(values[early]) / 5
        assert min(values[early]) - room < values[NUM_BLOCKS - 1] < max(values[early]) + room
        assert abs(np.mean(values[late]) - np.mean(values[early])) < room
