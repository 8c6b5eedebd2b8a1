"""The sizes an engine is built for: the shapes of the preset, and ranges where an axis is open."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from export.repository.catalogue import AVATAR, ROLLING, system_in
from pipeline.avatar.audio import FIELD, HOP
from pipeline.config.avatar import PipelineConfig
from pipeline.config.rolling import RollingConfig
from pipeline.config.rules import served_rules
from pipeline.rolling.plan import Pass, RollingPlan

Config = PipelineConfig | RollingConfig
Range = tuple[int, int, int]
"""Smallest, most frequent and largest size of an axis."""
Ranges = Mapping[str, Range]
"""Name of a dynamic axis -> its range."""
Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def load_config(graphs: Path) -> Config:
    """Of the folder of a preset's graphs: the avatar's, or that of text-to-video streams."""
    if system_in(graphs) is ROLLING:
        return RollingConfig.load(graphs / ROLLING.config)
    return PipelineConfig.load(graphs / AVATAR.config)


def ranges_of(graph: str, config: Config) -> list[Ranges]:
    """Name of a dynamic axis of `graph` -> its range, for each of its optimisation profiles."""
    if isinstance(config, RollingConfig):
        return [pass_ranges(config).get(graph, {})]
    return step_ranges(config) if graph == "dit_step" else [axis_ranges(config)]


def step_ranges(config: PipelineConfig) -> list[Ranges]:
    """The two profiles of `dit_step`: a step of a block, and the pass that fills the sink.

    A step sees the sink and the cached blocks, which at first is its own block alone.
    """
    frames, tokens, sink = config.frames_per_block, config.tokens_per_frame, config.num_sink_tokens
    keys = (sink + config.tokens_per_block, config.cache_len, config.cache_len)
    step = {"frames": (frames,) * 3, "frame_tokens": (tokens,) * 3, "keys": keys}
    fill = {"frames": (1, 1, 1), "frame_tokens": (sink,) * 3, "keys": (sink,) * 3}
    return [{"actors": (1, 1, config.max_actors), **step}, {"actors": (1, 1, 1), **fill}]


def hull(profiles: Sequence[Ranges]) -> Ranges:
    """The axes' ranges over all profiles; the first one's sizes are the most frequent."""
    return {
        axis: (min(p[axis][0] for p in profiles), usual, max(p[axis][2] for p in profiles))
        for axis, (_, usual, _) in profiles[0].items()
    }


def axis_ranges(config: PipelineConfig) -> dict[str, Range]:
    """Name of a dynamic axis of the avatar's graphs -> its range.

    The window of samples grows while a stream is young, and is longest with a whole context, a
    block and the look-ahead. Most sessions have one actor.
    """
    frame = config.samples_per_frame
    context = config.audio_context_frames + config.audio_lookahead_frames
    longest = frame * context + config.samples_per_block + HOP
    frames = config.video_frames_per_block
    return {
        "actors": (1, 1, config.max_actors),
        "num_samples": (FIELD, longest, longest),
        "T": (1, frames, frames),
    }


def pass_ranges(config: RollingConfig) -> dict[str, dict[str, Range]]:
    """Graph of a text-to-video stream -> dynamic axis -> its range: exactly what plans can ask for,
    under every set of rules that the graphs can run.

    The most frequent sizes are those of the last pass of a long stream, whose history no longer
    grows: under the deployed rules, or, if they never run the graph, those with the longest cache.
    """
    others = sorted(served_rules(config).values(), key=lambda rules: rules.cache_blocks)
    sizes: defaultdict[str, list[dict[str, int]]] = defaultdict(list)
    for rules in (*others, config):
        for each in _passes(rules):
            sizes[each.graph].append(
                {
                    "frames": len(each.blocks) * config.frames_per_block,
                    "history": len(each.history),
                    "stored_blocks": len(each.stored),
                }
            )
    return {
        graph: {
            axis: (min(s[axis] for s in found), found[-1][axis], max(s[axis] for s in found))
            for axis in found[0]
        }
        for graph, found in sizes.items()
    }


def _passes(rules: RollingConfig) -> Iterator[Pass]:
    """Of short streams, of streams with a new prompt at every tick, and of a long one."""
    full = rules.window_blocks + 2 * rules.cache_blocks
    for num_blocks in range(1, full):
        yield from _stream(rules, RollingPlan(rules).num_ticks(num_blocks), num_blocks)
    for switch in range(full):
        yield from _stream(rules, switch + 1, switch=switch)
    yield from _stream(rules, full)


def _stream(
    rules: RollingConfig, num_ticks: int, num_blocks: int | None = None, switch: int = -1
) -> Iterator[Pass]:
    plan = RollingPlan(rules)
    for number in range(num_ticks):
        tick = (plan.switch_tick if number == switch else plan.tick)(number, num_blocks)
        yield from (tick.denoise if tick.store is None else (tick.store, *tick.denoise))


def profile(inputs: Mapping[str, Sequence[int | str]], ranges: Ranges) -> dict[str, Shapes]:
    """Smallest, most frequent and largest shape of every input whose shape is open.

    `inputs` holds an axis' size or its name; ValueError names an axis without a range.
    """
    shapes: dict[str, Shapes] = {}
    for name, shape in inputs.items():
        opened = [axis for axis in shape if isinstance(axis, str)]
        for axis in opened:
            if axis not in ranges:
                raise ValueError(f"input {name}: no range for axis {axis!r}, see {__name__}")
        if opened:
            low, usual, high = (sizes_of(shape, ranges, i) for i in range(3))
            shapes[name] = (low, usual, high)
    return shapes


def sizes_of(shape: Sequence[int | str], ranges: Ranges, end: int) -> tuple[int, ...]:
    """The shape with its open axes at the smallest (end 0), usual (1) or largest (2) size."""
    return tuple(ranges[axis][end] if isinstance(axis, str) else axis for axis in shape)
