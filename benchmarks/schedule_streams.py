"""Streams of every schedule at one network size, and the work that a block of each takes.

Work is counted from shapes: multiplications and additions of linear layers and attention over the
passes that the plan names. What the avatar hears is left out.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.schedule_workers import Visit
from export.graphs.exporter import export_preset
from export.presets import preset_named
from networks.checkpoint import load_checkpoint
from networks.dit import DiT
from pipeline.avatar.decoder import Decoder
from pipeline.avatar.stage import Stage
from pipeline.config.avatar import PipelineConfig
from pipeline.config.rolling import RollingConfig
from pipeline.denoising.noise import block_noise
from pipeline.engines.base import Array
from pipeline.rolling.decoder import RollingDecoder
from pipeline.rolling.device import WindowDevice
from pipeline.rolling.plan import Pass, RollingPlan
from train.network.batched_dit import Conditions
from train.network.stream import plan_rules, stream
from train.network.stream_network import RolloutOptions
from train.preset import PRESET

ROLLING, WEIGHTS = Path("artifacts/rolling-demo"), Path("artifacts/demo")
FFN_RATIO = 4
STEADY = 12
"""Blocks until every cache is full."""


def pass_flops(
    config: RollingConfig | PipelineConfig, queries: int, keys: int, *, stores: bool = False
) -> float:
    """Of one pass over all layers; one that `stores` ends at the last layer's K and V."""
    width = config.num_heads * config.head_dim
    linear = 2 * queries * width**2 * (4 + 2 + 2 * FFN_RATIO)  # self, cross, feed-forward
    attention = 4 * queries * width * (keys + config.text_len)
    layer = linear + attention
    if stores:
        return (config.num_layers - 1) * layer + 2 * queries * width**2 * 2
    return config.num_layers * layer


def plan_flops(
    config: RollingConfig | PipelineConfig, planned: Pass, *, sink: int = 0, stores: bool = False
) -> float:
    """Of one planned pass, which may see `sink` tokens besides its keys."""
    size = config.tokens_per_block
    keys = sink + planned.num_keys * size
    return pass_flops(config, len(planned.blocks) * size, keys, stores=stores)


def steady_passes(config: RollingConfig) -> Iterable[Pass]:
    """Those of a block in the steady state."""
    tick = RollingPlan(config).tick(STEADY + config.window_blocks)
    return [*tick.denoise, *([tick.store] if tick.store else [])]


class Streams(ABC):
    """One schedule."""

    name: str
    frames: int  # video frames of a block
    flops: float  # work per block in the steady state
    decoder: Any
    denoiser: Any = None  # what keeps a session's caches, if that is not the stream itself

    @abstractmethod
    def open(self, session: int) -> Iterator[Array]:
        """Condition a stream; its latents, as many as are asked for."""

    def decode(self, session: int, latent: Array) -> None:
        """The first latent's frames."""
        self.decoder.step(session, 0, latent)

    def close(self, session: int) -> None:
        self.decoder.close(session)
        if self.denoiser is not None:
            self.denoiser.close(session)


class TextToVideo(Streams):
    """The served window under one set of rules, on ONNX Runtime."""

    def __init__(self, rules: str) -> None:
        self.name = self.rules = rules
        self.denoiser, self.decoder = WindowDevice(ROLLING), RollingDecoder(ROLLING)
        self.decoder.warm_up()
        stage = self.denoiser.stages[rules]
        stage.warm_up()
        self.config = c = stage.config
        self.frames = c.frames_per_block * c.temporal_stride
        self.flops = sum(plan_flops(c, p, stores=p.levels is None) for p in steady_passes(c))

    def open(self, session: int) -> Iterator[Array]:
        text = np.zeros((1, self.config.text_len, self.config.text_dim), np.float32)
        self.denoiser.open(session, text, rules=np.frombuffer(self.rules.encode(), np.uint8))
        self.decoder.open(session)
        return self._latents(session)

    def _latents(self, session: int) -> Iterator[Array]:
        for tick in itertools.count():
            latent = self.denoiser.step(session, tick)
            if latent is not None:
                yield latent


class Avatar(Streams):
    """Timestep forcing on the served graphs, all steps folded onto one device."""

    name = "timestep_forcing"

    def __init__(self, graphs: Path) -> None:
        self.config = c = PipelineConfig.load(graphs / "pipeline.json")
        self.denoiser, self.decoder = Stage(graphs, list(range(c.num_steps))), Decoder(graphs)
        self.denoiser.warm_up()
        self.decoder.warm_up()
        self.frames = c.video_frames_per_block
        self.flops = c.num_steps * pass_flops(c, c.tokens_per_block, c.cache_len)

    def open(self, session: int) -> Iterator[Array]:
        given = self.conditions()
        self.denoiser.open(session, **given)
        self.decoder.open(session, given["motion"])
        return self._latents(session)

    def conditions(self) -> dict[str, Array]:
        """Reference, motion and text of a session, all zeros."""
        given = silent_conditions(self.config, 1)
        return {name: getattr(given, name).numpy() for name in ("reference", "motion", "text")}

    def _latents(self, session: int) -> Iterator[Array]:
        c = self.config
        shapes = c.audio_local_shape, c.audio_global_shape
        local, overall = (np.zeros(shape, np.float32) for shape in shapes)
        distance = np.full(c.num_steps, c.sink_distance, np.int64)
        for block in itertools.count():
            noise = block_noise(0, block, c.latent_shape)
            yield self.denoiser.step(session, block, noise, local, overall, distance)


class TorchAvatar(Streams):
    """The avatar's network in PyTorch, as `train.evaluate` rolls it out, with ONNX's decoder."""

    def __init__(
        self, name: str, options: RolloutOptions, num_blocks: int, dit: DiT, beside: Avatar
    ) -> None:
        """`num_blocks` of the longest stream; size and decoder are those of `beside`."""
        self.name, self.options, self.num_blocks = f"avatar, torch: {name}", options, num_blocks
        self.dit, self.decoder = dit, beside.decoder
        self.config = c = beside.config
        self.frames = c.video_frames_per_block
        self.flops = c.num_steps * pass_flops(c, c.tokens_per_block, c.cache_len)
        if options.history == "clean":
            passes = steady_passes(plan_rules(c, options))
            self.flops = sum(plan_flops(c, p, sink=c.num_sink_tokens) for p in passes)

    def open(self, session: int) -> Iterator[Array]:
        given = silent_conditions(self.config, self.num_blocks)
        self.decoder.open(session, given.motion.numpy())
        return self._latents(stream(self.dit, given, self.options, config=self.config))

    @torch.no_grad()
    def _latents(self, blocks: Iterator[torch.Tensor]) -> Iterator[Array]:
        for latent in blocks:
            yield latent.numpy()


@contextmanager
def two_stations(streams: Streams, session: int) -> Iterator[list[Visit]]:
    """A new session's denoising as one station, and its decoder as another."""
    latents = streams.open(session)

    def denoise(_block: int, _given: Any) -> Array:
        return next(latents)

    def decode(block: int, latent: Any) -> None:
        streams.decoder.step(session, block, latent)

    try:
        yield [denoise, decode]
    finally:
        streams.close(session)


def silent_conditions(config: PipelineConfig, num_blocks: int) -> Conditions:
    """Zeros for one stream: they cost what anything costs."""
    size = config.latent_height, config.latent_width
    num_video = num_blocks * config.video_frames_per_block
    return Conditions(
        reference=torch.zeros(1, config.latent_channels, 1, *size),
        motion=torch.zeros(1, config.latent_channels, config.motion_frames, *size),
        text=torch.zeros(1, config.text_len, config.text_dim),
        audio=torch.zeros(1, config.audio_layers, config.audio_dim, num_video),
    )


def every_schedule(num_blocks: int, graphs: Path) -> list[Streams]:
    """All that are compared; streams of up to `num_blocks` blocks. The avatar's graphs are exported
    to `graphs` at the size of the other ones."""
    windows = [TextToVideo("rolling_forcing"), TextToVideo("self_forcing")]
    size = f"{windows[0].config.height}x{windows[0].config.width}"
    export_preset(preset_named("demo", size), WEIGHTS, graphs)
    avatar = Avatar(graphs)
    dit = load_checkpoint(DiT(PRESET.dit), WEIGHTS / "dit.safetensors")
    rolling = RolloutOptions(history="clean", schedule="rolling")
    ways = {
        "own level": RolloutOptions(),
        "clean history": RolloutOptions(history="clean"),
        "joint window": rolling,
    }
    rolled = [TorchAvatar(*way, num_blocks, dit, avatar) for way in ways.items()]
    return [*windows, avatar, *rolled]
