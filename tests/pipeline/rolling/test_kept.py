"""What is kept of a stream at the window, on latents that are only numbers."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.rolling import RollingConfig
from pipeline.config.rules import DEPLOYED, served_rules
from pipeline.rolling.kept import KeptStream, exact_blocks

FILE = Path(__file__).parents[3] / "artifacts" / "rolling-demo" / "rolling.json"
CONFIG = RollingConfig.load(FILE)
RULES = served_rules(CONFIG)
MANY = 10_000


def kept_of(
    num_ticks: int,
    *,
    rules: str = DEPLOYED,
    config: RollingConfig | None = None,
    blocks: int = 6,
    texts: dict[int, int] | None = None,
    order: int = 1,
) -> KeptStream:
    """A stream of so many ticks, each with noise; `order` 2: neighbours are told in reverse."""
    served = RULES if config is None else {rules: config}
    opening = {"rules": np.frombuffer(rules.encode(), np.uint8)}
    kept = KeptStream(opening, served, blocks)
    window, frames = kept.config.window_blocks, kept.config.frames_per_block
    for first in range(0, num_ticks, order):
        for tick in reversed(range(first, min(num_ticks, first + order))):
            blocks_left = range(max(0, tick + 1 - window), tick + 1)
            latents = np.repeat(np.array(blocks_left, np.float32), frames)
            inputs = {"noise": np.zeros(1), "in_flight": latents.reshape(1, 1, -1, 1, 1)}
            if texts and tick in texts:
                inputs["text"] = np.array([texts[tick]])
            kept.add(tick, inputs)
    return kept


def ticks_of(kept: KeptStream) -> list[int]:
    return [int(inputs["block"][0]) for _, inputs in kept.history()]


@pytest.mark.parametrize("order", [1, 2])
def test_the_sink_and_the_last_blocks_are_kept_and_no_more(order: int) -> None:
    """An endless stream would fill the memory, or lose the picture that it began with."""
    kept = kept_of(100, order=order)
    assert ticks_of(kept) == [*range(6), *range(94, 100)]
    assert len(ticks_of(kept_of(500, blocks=MANY))) == 6 + exact_blocks(CONFIG)


@pytest.mark.parametrize("order", [1, 2])
def test_only_the_newest_tick_has_blocks_in_flight_and_their_noise(order: int) -> None:
    """A stream's memory would be five times as large, and ten with noise of its own."""
    kept = kept_of(40, order=order)
    *before, (_, last) = kept.history()
    assert last["in_flight"].ravel()[:: CONFIG.frames_per_block].tolist() == [35, 36, 37, 38, 39]
    for _, inputs in before:
        done = max(0, int(inputs["block"][0]) + 1 - CONFIG.window_blocks)
        assert inputs["in_flight"].ravel().tolist() == [done] * CONFIG.frames_per_block
    with_noise = [int(i["block"][0]) for _, i in kept.history() if "noise" in i]
    assert with_noise == [35, 36, 37, 38, 39]


def test_ticks_are_numbered_up_to_the_newest_without_gaps() -> None:
    """The model takes a session's ticks in turn."""
    numbers = [number for number, _ in kept_of(100).history()]
    assert numbers == list(range(88, 100))


def test_a_prompt_of_a_tick_that_is_forgotten_holds_from_the_next_one() -> None:
    """Blocks would be made again under the prompt of before."""
    kept = kept_of(100, texts={3: 33, 20: 200, 50: 500, 97: 970})
    texts = {int(i["block"][0]): int(i["text"][0]) for _, i in kept.history() if "text" in i}
    assert texts == {3: 33, 94: 500, 97: 970}


def test_blocks_that_a_new_prompt_runs_again_are_kept() -> None:
    """The sink is made by the last change of prompt that came before the cache was full."""
    kept = kept_of(100, rules="longlive")
    slots = RULES["longlive"].cache_blocks
    assert ticks_of(kept) == [*range(slots + 1), *range(94 - slots, 100)]


def test_a_sink_that_moves_is_kept_where_it_moved_to() -> None:
    """The stream would come back with the sink of another scene."""
    config = dataclasses.replace(RULES["longlive"], recache="new_sink")
    kept = kept_of(100, config=config, texts={2: 20, 40: 400})
    slots = config.cache_blocks
    assert ticks_of(kept) == [*range(40 - slots, 41), *range(94 - slots, 100)]
    texts = {int(i["block"][0]): int(i["text"][0]) for _, i in kept.history() if "text" in i}
    assert texts == {40 - slots: 20, 40: 400}


def test_a_stream_that_has_made_nothing_has_no_history() -> None:
    """It is opened, and that is all."""
    assert kept_of(0).history() == []
