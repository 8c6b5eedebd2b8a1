"""The plan of a text-to-video stream, checked against a cache that only remembers block numbers."""

import dataclasses
from collections.abc import Iterator

import pytest

from pipeline.config.rolling import RollingConfig
from pipeline.rolling.plan import Pass, RollingPlan, Tick

ROLLING = RollingConfig(
    preset="test",
    height=64,
    width=64,
    patch_size=1,
    num_layers=1,
    num_heads=1,
    head_dim=6,
    text_len=4,
    text_dim=4,
)
SELF_FORCING = dataclasses.replace(
    ROLLING, schedule="sequential", sink_frames=0, sink_position="true", clean_sees_sink=True
)
LONGLIVE = dataclasses.replace(
    SELF_FORCING, span_frames=12, sink_frames=3, sink_position="adjacent", recache="keep_sink"
)
CONFIGS = {"rolling": ROLLING, "self_forcing": SELF_FORCING, "longlive": LONGLIVE}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def ticks(config: RollingConfig, num_blocks: int, switches: tuple[int, ...] = ()) -> Iterator[Tick]:
    """All ticks of a stream whose end is known when its last block has entered, no earlier."""
    plan = RollingPlan(config)
    for number in range(plan.num_ticks(num_blocks)):
        known = num_blocks if number >= num_blocks else None
        yield (plan.switch_tick if number in switches else plan.tick)(number, known)


def passes(tick: Tick) -> list[Pass]:
    return [*([] if tick.store is None else [tick.store]), *tick.denoise]


class Cache:
    """Slots that hold block numbers; refuses what a real cache would get wrong in silence."""

    def __init__(self, config: RollingConfig) -> None:
        self.slots: list[int | None] = [None] * config.cache_blocks

    def run(self, each: Pass) -> None:
        written = range(each.write_slot, each.write_slot + len(each.stored))
        assert written.stop <= len(self.slots)
        for key in each.history:
            assert key.slot not in written, "read and written in one pass"
            assert self.slots[key.slot] == key.block, "the block is not there"
        for slot, block in zip(written, each.stored, strict=True):
            self.slots[slot] = block


@every_config
def test_two_thousand_blocks_find_their_keys_in_their_slots(config: RollingConfig) -> None:
    """A block overwritten too early, or a slot read before it is written, is silent garbage."""
    cache, finished = Cache(config), []
    for tick in ticks(config, 2_100, switches=(700, 1_501)):
        for each in passes(tick):
            cache.run(each)
            assert each.num_keys <= config.span_blocks or len(each.blocks) > config.window_blocks
        finished += [] if tick.finished is None else [tick.finished]
    assert finished == list(range(2_100))


@pytest.mark.parametrize("config", [ROLLING, LONGLIVE], ids=["rolling", "longlive"])
def test_positions_stay_within_the_span_for_ever(config: RollingConfig) -> None:
    """The release stops at 1024 positions; here a stream must have no end."""
    for tick in ticks(config, 2_100):
        for each in passes(tick):
            frames = config.frames_per_block
            starts = [key.position for key in each.history]
            starts += [each.position + i * frames for i in range(len(each.blocks))]
            assert starts == [i * frames for i in range(len(starts))]
            assert starts[-1] + frames <= config.span_frames


def test_a_sink_that_stays_grows_distant() -> None:
    """Self-Forcing's positions are those of the stream."""
    config = dataclasses.replace(SELF_FORCING, sink_frames=3)
    last = list(ticks(config, 50))[-1].denoise[-1]
    assert last.position == 49 * 3
    assert last.history[0].position == 0
    assert [key.position for key in last.history[1:]] == [3 * b for b in range(44, 49)]


@every_config
@pytest.mark.parametrize("num_blocks", range(1, 8))
def test_streams_of_any_length_take_every_block_through_every_level(
    config: RollingConfig, num_blocks: int
) -> None:
    """The release fails below five blocks; a client may stop after one."""
    seen: dict[int, list[int]] = {block: [] for block in range(num_blocks)}
    order = []
    for tick in ticks(config, num_blocks):
        for each in tick.denoise:
            assert each.levels is not None
            for block, level in zip(each.blocks, each.levels, strict=True):
                seen[block].append(level)
        order += [] if tick.finished is None else [tick.finished]
    assert order == list(range(num_blocks))
    assert set(map(tuple, seen.values())) == {tuple(range(config.num_levels))}


@every_config
@pytest.mark.parametrize("num_blocks", [1, 2, 5, 6, 14])
def test_every_clean_pass_is_read_and_happens_once(config: RollingConfig, num_blocks: int) -> None:
    """A fifth of a tick's work would be wasted; or K/V would be missing."""
    stored: list[int] = []
    read: set[int] = set()
    for tick in ticks(config, num_blocks):
        if tick.store is not None:
            stored += tick.store.stored
        for each in passes(tick):
            read |= {key.block for key in each.history}
    assert stored == list(range(num_blocks - 1))
    assert read == set(stored)


def test_a_window_sees_the_sink_and_the_history_that_the_span_has_room_for() -> None:
    """The rule of docs/method.md section 8, in blocks: history and window of every tick."""
    shapes = [
        (tuple(key.block for key in each.history), tuple(each.blocks))
        for tick in ticks(ROLLING, 9)
        for each in tick.denoise
    ]
    assert shapes == [
        *(((), tuple(range(n))) for n in range(1, 6)),
        ((0,), (1, 2, 3, 4, 5)),
        ((0, 1), (2, 3, 4, 5, 6)),
        ((0, 2), (3, 4, 5, 6, 7)),
        ((0, 3), (4, 5, 6, 7, 8)),
        ((0, 3, 4), (5, 6, 7, 8)),
        ((0, 3, 4, 5), (6, 7, 8)),
        ((0, 3, 4, 5, 6), (7, 8)),
        ((0, 3, 4, 5, 6, 7), (8,)),
    ]


def test_a_clean_pass_loses_sight_of_the_sink_when_the_span_is_full() -> None:
    """The denoising rule applied to it gives errors of a hundredth."""
    plan = RollingPlan(ROLLING)
    history = {b: [key.block for key in plan.clean_pass(b).history] for b in (0, 1, 6, 7, 20)}
    assert history == {
        0: [],
        1: [0],
        6: [0, 1, 2, 3, 4, 5],
        7: [1, 2, 3, 4, 5, 6],
        20: [14, 15, 16, 17, 18, 19],
    }
    assert [key.block for key in RollingPlan(LONGLIVE).clean_pass(20).history] == [0, 18, 19]


def test_unknown_and_known_length_plan_the_same_until_the_end() -> None:
    """Nobody knows when a live stream ends."""
    plan = RollingPlan(ROLLING)
    assert [plan.tick(n) for n in range(9)] == [plan.tick(n, 9) for n in range(9)]


@pytest.mark.parametrize("kind", ["keep_sink", "new_sink"])
@pytest.mark.parametrize("switch", [1, 2, 3, 4, 5, 6, 11])
def test_a_new_prompt_runs_what_the_cache_holds_again(kind: str, switch: int) -> None:
    """Blocks would keep the old prompt's K/V, or the next blocks look for them elsewhere."""
    config = dataclasses.replace(LONGLIVE, recache=kind)
    cache, plan = Cache(config), list(ticks(config, 20, switches=(switch,)))
    for tick in plan:
        for each in passes(tick):
            cache.run(each)
    again = plan[switch].store
    assert again is not None
    assert again.blocks == range(max(0, switch - 4), switch)
    keeps = kind == "keep_sink" and switch > 4
    assert again.stored == (again.blocks[1:] if keeps else again.blocks)
    assert [key.block for key in again.history] == ([0] if keeps else [])
    first = 0 if keeps else again.blocks.start
    assert [key.block for key in plan[-1].denoise[0].history] == [first, 17, 18]


def test_a_new_prompt_before_the_first_finished_block_runs_nothing_again() -> None:
    """There is nothing in the cache yet."""
    config = dataclasses.replace(ROLLING, recache="new_sink")
    for switch in range(5):
        planned = list(ticks(config, 12, switches=(switch,)))
        assert planned == list(ticks(config, 12))


def test_a_rolling_stream_runs_its_cache_again_too() -> None:
    """Sink, ring and window under a new prompt."""
    config = dataclasses.replace(ROLLING, recache="new_sink")
    cache = Cache(config)
    for tick in ticks(config, 60, switches=(7, 30)):
        for each in passes(tick):
            cache.run(each)


def test_ticks_outside_the_stream_are_refused() -> None:
    """A driver's mistake would otherwise be an empty window."""
    plan = RollingPlan(ROLLING)
    with pytest.raises(ValueError, match="tick is -1"):
        plan.tick(-1)
    with pytest.raises(ValueError, match="tick is 9, but a stream of 5 blocks has 9"):
        plan.tick(9, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"span_frames": 15}, "span_frames is 15, wanted 18 or more"),
        ({"span_frames": 20}, "span_frames is 20, wanted a multiple"),
        ({"schedule": "spiral"}, "schedule is 'spiral', wanted one of"),
        ({"denoising_steps": (200, 800)}, "wanted falling numbers"),
        ({"denoising_steps": (1000, 0)}, "wanted numbers in 1..1000"),
        ({"height": 63}, "height is 63, wanted a positive multiple of 8"),
        ({"context_timestep": -1}, "context_timestep is -1"),
    ],
)
def test_rules_that_cannot_hold_are_refused(change: dict, message: str) -> None:
    """Better when the file is read than in the tenth window."""
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(ROLLING, **change)


def test_a_config_survives_its_file(tmp_path) -> None:
    """The server reads what the export wrote."""
    path = tmp_path / "rolling.json"
    LONGLIVE.save(path)
    assert RollingConfig.load(path) == LONGLIVE
    path.write_text(path.read_text().replace("shift", "shaft"))
    with pytest.raises(ValueError, match="unknown keys \\['shaft'\\]"):
        RollingConfig.load(path)
