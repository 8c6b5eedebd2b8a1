"""The planner's integers against every network call that the release made."""

from typing import Any

import numpy as np
import pytest

from pipeline.config.rolling import RollingConfig
from pipeline.denoising.schedule import Levels
from pipeline.rolling.plan import Pass, RollingPlan
from tests.golden.presets import golden_rolling_preset
from tests.golden.rolling.fixtures import STREAMS, facts, needs_rolling

pytestmark = needs_rolling


def _call(each: Pass, window: int, config: RollingConfig, cached: int) -> dict[str, Any]:
    """A pass in the words of config.json; `cached` blocks were stored before the stream's tick."""
    frames, first = config.frames_per_block, each.blocks.start
    sinks = [key for key in each.history if key.block == 0]
    from_stream_start = first * frames - each.position  # positions are counted from another zero
    levels = Levels(config).timesteps
    timesteps = [config.context_timestep] if each.levels is None else levels[list(each.levels)]
    return {
        "call": "update" if each.levels is None else "denoise",
        "start_block": first,
        "frames": len(each.blocks) * frames,
        "timesteps": [round(float(t), 3) for t in timesteps],
        "key_frames": each.num_keys * frames,
        "sink_rope_start": sinks[0].position + from_stream_start if sinks else None,
        "global_end_frames": cached * frames,
        "local_end_frames": min(cached, config.cache_blocks) * frames,
        "window": window,
    }


def _planned(config: RollingConfig, num_blocks: int) -> list[dict[str, Any]]:
    plan, calls = RollingPlan(config), []
    for number in range(plan.num_ticks(num_blocks)):
        tick = plan.tick(number, num_blocks if number >= num_blocks else None)
        if tick.store is not None:  # the release stores at the end of the tick before
            calls.append(_call(tick.store, number - 1, config, tick.store.blocks.stop))
        # The release counts the slot of the window's first block from the noisy pass on.
        calls += [_call(each, number, config, each.blocks.start + 1) for each in tick.denoise]
    return calls


@pytest.mark.parametrize("folder", STREAMS)
def test_every_call_is_planned_as_the_release_makes_it(folder: str) -> None:
    """Blocks, levels, keys, sink position or fill of the cache would differ somewhere."""
    values = facts(folder)["config"]
    config, num_blocks = golden_rolling_preset(values).stream, values["num_blocks"]
    dead = {  # stored before block 0 is finished, or after the last block: nobody reads it
        *range(config.num_levels - 1),
        num_blocks + config.num_levels - 2,
    }
    wanted: list[dict[str, Any]] = [
        call | {"timesteps": [round(t, 3) for t in call["timesteps"]]}
        for call in facts(folder)["calls"]
        if call["call"] == "denoise" or call["window"] not in dead
    ]
    planned = _planned(config, num_blocks)
    assert wanted
    if len(wanted) < len(planned):  # first and last calls alone are listed of long streams
        pairs = zip(wanted, planned, strict=False)
        differ = (i for i, (one, other) in enumerate(pairs) if one != other)
        first = next(differ, len(wanted))
        planned = planned[:first] + planned[len(planned) - (len(wanted) - first) :]
    assert planned == wanted


@pytest.mark.parametrize("folder", STREAMS)
def test_levels_are_those_of_the_release(folder: str) -> None:
    """Every window would be told a wrong amount of noise."""
    levels = Levels(golden_rolling_preset(facts(folder)["config"]).stream)
    assert np.allclose(levels.timesteps, facts(folder)["warped_timesteps"], atol=1e-3)
    assert np.allclose(levels.sigmas, facts(folder)["sigmas_at_levels"], atol=1e-6)
