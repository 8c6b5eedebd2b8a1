"""The avatar's stations in one process: what denoises, and the decoder. Nobody else is asked."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.schedule_workers import Visit
from pipeline.avatar.decoder import Decoder
from pipeline.avatar.stage import Stage
from pipeline.denoising.noise import block_noise
from pipeline.engines.base import Array, EngineLoader
from pipeline.engines.onnx import Engine

SEED = 0
"""Of pictures, prompt, sound and noise, which are drawn: every line gets the same."""


class AvatarLine:
    """Stages that own `steps`, one list each, and the decoder, on so many threads each."""

    def __init__(
        self,
        folder: Path,
        steps: Sequence[Sequence[int]] | None = None,
        num_threads: int = 1,
        load_engine: EngineLoader = Engine,
    ) -> None:
        """Load the graphs of an artifacts folder. `steps` None: a stage for each."""
        self.decoder = Decoder(folder, num_threads, load_engine)
        self.config = c = self.decoder.config
        owned = steps or [[step] for step in range(c.num_steps)]
        self.stages = [Stage(folder, list(own), num_threads, load_engine) for own in owned]
        drawn = np.random.default_rng(SEED)

        def draw(*shape: int) -> Array:
            return drawn.standard_normal(shape).astype(np.float32)

        size = c.latent_height, c.latent_width
        self._given = {
            "motion": draw(1, c.latent_channels, c.motion_frames, *size),
            "text": draw(1, c.text_len, c.text_dim),
            "reference": draw(1, c.latent_channels, 1, *size),
        }
        self._heard = draw(*c.audio_local_shape), draw(*c.audio_global_shape)

    @contextmanager
    def stations(self, session: int) -> Iterator[list[Visit]]:
        """Of a new session. The last one returns the block's frames, uint8 [T, H, W, 3], valid
        until its next call but one."""
        for stage in self.stages:
            stage.open(session, **self._given)
        self.decoder.open(session, self._given["motion"])
        distance = np.full(self.config.num_steps, self.config.sink_distance, np.int64)

        def denoise(stage: Stage) -> Visit:
            def visit(block: int, latent: Any) -> Any:
                if latent is None:
                    latent = block_noise(SEED, block, self.config.latent_shape)
                return stage.step(session, block, latent, *self._heard, distance)

            return visit

        def decode(block: int, latent: Any) -> Any:
            return self.decoder.step(session, block, latent)

        try:
            yield [*map(denoise, self.stages), decode]
        finally:
            for stage in self.stages:
                stage.close(session)
            self.decoder.close(session)
