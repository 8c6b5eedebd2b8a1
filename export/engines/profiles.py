"""The sizes an engine is built for: the shapes of the preset, and ranges where an axis is open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from export.engines.rolling_profiles import Range, pass_ranges
from pipeline.avatar.audio import FIELD, HOP
from pipeline.config.avatar import PipelineConfig
from pipeline.config.rolling import RollingConfig

Config = PipelineConfig | RollingConfig
Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def load_config(graphs: Path) -> Config:
    """Of the folder of a preset's graphs: the avatar's, or that of text-to-video streams."""
    rolling = graphs / "rolling.json"
    if rolling.is_file():
        return RollingConfig.load(rolling)
    return PipelineConfig.load(graphs / "pipeline.json")


def ranges_of(graph: str, config: Config) -> dict[str, Range]:
    """Name of a dynamic axis of `graph` -> its range."""
    if isinstance(config, RollingConfig):
        return pass_ranges(config).get(graph, {})
    return axis_ranges(config)


def axis_ranges(config: PipelineConfig) -> dict[str, Range]:
    """Name of a dynamic axis -> its range.

    The window of samples grows while a stream is young, and is longest with a whole context, a
    block and the look-ahead. The wire carries one speaker.
    """
    frame = config.samples_per_frame
    context = config.audio_context_frames + config.audio_lookahead_frames
    longest = frame * context + config.samples_per_block + HOP
    frames = config.video_frames_per_block
    return {
        "actors": (1, 1, 1),
        "num_samples": (FIELD, longest, longest),
        "T": (1, frames, frames),
    }


def profile(
    inputs: Mapping[str, Sequence[int | str]], ranges: Mapping[str, Range]
) -> dict[str, Shapes]:
    """Smallest, most frequent and largest shape of every input whose shape is open.

    `inputs` holds an axis' size or its name; ValueError names an axis without a range.
    """
    shapes: dict[str, Shapes] = {}
    for name, shape in inputs.items():
        for axis in shape:
            if isinstance(axis, str) and axis not in ranges:
                raise ValueError(f"input {name}: no range for axis {axis!r}, see {__name__}")
        if any(isinstance(axis, str) for axis in shape):
            low, usual, high = (
                tuple(ranges[axis][i] if isinstance(axis, str) else axis for axis in shape)
                for i in range(3)
            )
            shapes[name] = (low, usual, high)
    return shapes
