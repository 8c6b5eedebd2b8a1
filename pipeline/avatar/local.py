"""The whole pipeline in one process: the models' code without a server.

For tests, experiments and evaluation. The same stages, decoder, order and orchestrator as served;
only the messages between them are missing.
"""

from __future__ import annotations

import queue
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.avatar.audio import AudioWindow
from pipeline.avatar.decoder import Decoder
from pipeline.avatar.request import AvatarRequest
from pipeline.avatar.stage import Stage
from pipeline.config.avatar import PipelineConfig
from pipeline.engines.base import EngineLoader
from pipeline.engines.device_sessions import Device, SessionWorker
from pipeline.engines.onnx import Engine
from pipeline.pictures.reference import read_picture
from pipeline.sessions.text import Tokenizer, pad_text


class LocalExecutor:
    """Runs every model of `folder` (an artifacts folder) in this process, on threads."""

    def __init__(
        self,
        folder: Path,
        steps: Sequence[Sequence[int]] | None = None,
        *,
        num_threads: int = 1,
        max_sessions: int = 4,
        load_engine: EngineLoader = Engine,
    ) -> None:
        """`steps` per stage; by default every step is a stage of its own. `load_engine` loads what
        holds sessions: stages and decoder."""
        self.config = PipelineConfig.load(folder / "pipeline.json")
        owned = steps or [[step] for step in range(self.config.num_steps)]
        self.num_stages = len(owned)
        self.tokenizer = Tokenizer(self.config, folder)
        self.audio_encoder = Engine(folder / "audio_encoder.onnx", num_threads)
        self.audio_tokens_graph = Engine(folder / "audio_tokens.onnx", num_threads)
        self.text_encoder = Engine(folder / "text_encoder.onnx", num_threads)
        self.vae_encoder = Engine(folder / "vae_encoder.onnx", num_threads)
        devices: list[Device] = [Stage(folder, list(s), num_threads, load_engine) for s in owned]
        devices.append(Decoder(folder, num_threads, load_engine))
        self.workers = [
            SessionWorker(device, f"stage {i}", max_sessions) for i, device in enumerate(devices)
        ]

    def start(self, request: AvatarRequest) -> None:
        text = request.text
        if text is None:
            text = self.text_encoder.run(self.tokenizer(request.prompt))["text"]
        else:
            text = pad_text(text, self.config)
        motion = self.vae_encoder.run({"image": self.picture(request)})["motion"]
        for worker in self.workers[:-1]:
            tensors = {"reference": motion[:, :, :1].copy(), "motion": motion, "text": text}
            wait_for(worker.open, request.session, tensors)
        wait_for(self.workers[-1].open, request.session, {"motion": motion})

    def picture(self, request: AvatarRequest) -> np.ndarray:
        """The reference image [1, 3, H, W] in [-1, 1]."""
        assert request.image is not None, "only START requests condition a session"
        return read_picture(request.image, self.config, request.options.picture_fit)

    def encode_audio(self, window: AudioWindow) -> np.ndarray:
        return self.audio_encoder.run(
            {
                "samples": window.samples,
                "frame_index": window.frame_index,
                "frame_weight": window.frame_weight,
            }
        )["audio_features"]

    def audio_tokens(self, audio_features: np.ndarray) -> dict[str, np.ndarray]:
        return self.audio_tokens_graph.run({"audio_features": audio_features})

    def step(self, stage: int, session: int, block: int, **tensors: Any) -> np.ndarray:
        return wait_for(self.workers[stage].step, session, block, tensors)

    def decode(self, session: int, block: int, latent: np.ndarray) -> np.ndarray:
        return wait_for(self.workers[-1].step, session, block, {"latent": latent})

    def close(self, session: int) -> None:
        for worker in self.workers:
            wait_for(worker.close, session)

    def stop(self) -> None:
        """End every worker."""
        for worker in self.workers:
            worker.stop()


def wait_for(call: Any, *args: Any) -> Any:
    """What a worker's call gives to its `done`, as a copy; its exception is raised."""
    answer: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def done(result: Any) -> None:
        # The device reuses its output buffers, so the answer leaves as a copy.
        answer.put(result.copy() if isinstance(result, np.ndarray) else result)

    call(*args, done)
    result = answer.get()
    if isinstance(result, Exception):
        raise result
    return result
