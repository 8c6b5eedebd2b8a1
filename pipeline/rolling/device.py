"""`dit_window`: every set of rules on one set of graphs, called tick by tick. What comes with a
tick (a prompt, the stream's length) holds from that tick on, whenever it arrives."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from pipeline.config.rolling import RollingConfig
from pipeline.config.rules import DEPLOYED, served_rules
from pipeline.denoising.noise import block_noise
from pipeline.denoising.schedule import Levels
from pipeline.engines.base import Array, Buffers, EngineLoader
from pipeline.engines.onnx import Engine
from pipeline.rolling.window import WindowStage

GRAPHS = ("dit_window", "dit_clean", "dit_text", "dit_recache")


@dataclass(slots=True, kw_only=True)
class _Stream:
    stage: WindowStage
    seed: int
    given: dict[int, Array] = field(default_factory=dict)
    """Block -> noise [levels, C, F, h, w] in place of the seed's, while it is in flight."""

    def noise(self, block: int, level: int) -> Array:
        """What enters a block at a level, [1, C, F, h, w]."""
        if block in self.given:
            return self.given[block][level : level + 1]
        return block_noise(self.seed, block, self.stage.config.latent_shape, level)


class WindowDevice:
    """`open`, `step` and `close` are called by one thread."""

    def __init__(
        self, folder: Path, num_threads: int = 1, load_engine: EngineLoader = Engine
    ) -> None:
        """Load rolling.json, window_timesteps.safetensors and the graphs from `folder`."""
        config = RollingConfig.load(folder / "rolling.json")
        self.engines = {name: load_engine(folder / f"{name}.onnx", num_threads) for name in GRAPHS}
        tables = load_file(folder / "window_timesteps.safetensors")
        self.stages = {
            name: WindowStage(rules, self.engines, constants(rules, tables))
            for name, rules in served_rules(config).items()
        }
        self.sessions: dict[int, _Stream] = {}

    def open(
        self, session: int, text: Array, seed: Array | None = None, rules: Array | None = None
    ) -> None:
        """Start a stream: text [1, text_len, text_dim], seed int64 [1], the rules' name as UTF-8
        bytes (None: those of rolling.json)."""
        name = DEPLOYED if rules is None else rules.tobytes().decode()
        if name not in self.stages:
            raise ValueError(f"rules are {name!r}, wanted one of {', '.join(self.stages)}")
        stage = self.stages[name]
        stream = _Stream(stage=stage, seed=0 if seed is None else int(seed[0]))
        stage.open(session, text, stream.noise)
        self.sessions[session] = stream

    def step(
        self,
        session: int,
        tick: int,
        text: Array | None = None,
        noise: Array | None = None,
        num_blocks: Array | None = None,
        in_flight: Array | None = None,
    ) -> Array | None:
        """Run tick `tick`: the latent [1, C, F, h, w] of the block that it finishes, or None. From
        this tick on the prompt is `text` and the stream has `num_blocks` int64 [1] blocks. `noise`
        [levels, C, F, h, w] is that of block `tick`, which enters. With `in_flight`, which it left
        when it ran before, it is repeated for its caches' sake; then it gives None."""
        stream = self.sessions[session]
        if text is not None:
            stream.stage.switch(session, text)
        if noise is not None:
            stream.given[tick] = noise.copy()
        if num_blocks is not None:
            stream.stage.end(session, int(num_blocks[0]))
        if in_flight is not None:
            stream.stage.repeat(session, tick, in_flight.copy())
            return None
        done = stream.stage.step(session)
        if done is None:
            return None
        stream.given.pop(done.block, None)
        return done.latent

    def in_flight(self, session: int) -> Array:
        """What the last tick left (`WindowStage.in_flight`), which brings the stream back."""
        return self.sessions[session].stage.in_flight(session)

    @property
    def cache_bytes(self) -> int:
        return self.engines["dit_window"].cache_bytes

    def warm_up(self) -> None:
        """Run the graphs in every shape of the deployed rules once."""
        self.stages[DEPLOYED].warm_up()

    def close(self, session: int) -> None:
        """Free the stream's memory; unknown sessions are ignored."""
        if (stream := self.sessions.pop(session, None)) is not None:
            stream.stage.close(session)


def constants(rules: RollingConfig, tables: Buffers) -> Buffers:
    """The rows of window_timesteps.safetensors for one set of rules: levels, then the clean pass.
    `WindowStage` refuses them if a timestep isn't there."""
    times = tables["timesteps"]
    wanted = [*Levels(rules).timesteps.tolist(), rules.context_timestep]
    rows = [int(np.abs(times - time).argmin()) for time in wanted]
    return {name: table[rows] for name, table in tables.items()}
