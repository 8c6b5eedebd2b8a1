"""Where frames come from that are to be judged: the truth, the VAE, a DiT, or the served pipeline.

B takes side by side   T frames   S the picture's side   C channels   h w latent size
"""

import queue
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from networks.compact_vae import CompactVAE
from networks.dit import DiT
from networks.vae import VAE
from pipeline.avatar.audio import StreamingAudio
from pipeline.avatar.executor import AvatarExecutor
from pipeline.avatar.local import local_executor
from pipeline.avatar.orchestrator import AvatarOrchestrator
from pipeline.avatar.request import AvatarRequest, Options
from pipeline.sessions.session import BlockFrames
from train.encoders.features import block_features
from train.latents.takes import FrozenNetworks
from train.network.batched_dit import Conditions
from train.network.stream import stream
from train.network.stream_network import RolloutOptions
from train.vae.video import decoded, reconstructed, to_video
from train.world.clips import Take

Array = np.ndarray
WINDOWS = 32  # audio windows encoded together


class Source(Protocol):
    """Something that makes frames for takes."""

    batch: int  # takes that are best asked for together

    def generate(self, takes: Sequence[Take], seed: int) -> Iterator[Array]:
        """uint8 [B, T, S, S, 3] piece by piece, in order, at least as many as the takes have. All
        takes have the same length. Equal seeds give equal frames."""

    def close(self) -> None:
        """Free what it holds; nothing is generated afterwards."""


def sampling_seed(take: Take, seed: int) -> int:
    """The session seed of a take: faces must not share their noise, nor their luck."""
    return 1000 * take.seed + seed


class TruthSource(Source):
    """The renderer itself: what does not find this perfect is no metric."""

    batch = 1
    piece = 125

    def generate(self, takes: Sequence[Take], seed: int) -> Iterator[Array]:
        motions = [take.motion(seed) for take in takes]
        length = takes[0].num_frames
        for start in range(0, length, self.piece):
            rows = slice(start, min(start + self.piece, length))
            yield np.stack([take.draw(rows, m) for take, m in zip(takes, motions, strict=True)])


class ReconstructionSource(Source):
    """True clips through the VAE and back: no model that works in its latents does better. The
    first frame leads, so that the clip's frame 0 begins a latent as when streaming."""

    batch = 1
    lead = 1 + 4 * 7  # frames before the clip

    def __init__(self, vae: CompactVAE | VAE) -> None:
        self.vae = vae

    def generate(self, takes: Sequence[Take], seed: int) -> Iterator[Array]:
        motions = [take.motion(seed) for take in takes]
        length = takes[0].num_frames

        def frames(start: int, stop: int) -> Array:
            """Frames of the stream: the clip's first and last are held."""
            held = np.clip(np.arange(start, stop) - self.lead, 0, length - 1)
            low, high = int(held[0]), int(held[-1]) + 1
            drawn = [t.draw(slice(low, high), m) for t, m in zip(takes, motions, strict=True)]
            return np.stack(drawn)[:, held - low]

        before = self.lead
        for made in reconstructed(self.vae, frames, self.lead + length):
            yield made[:, before:]
            before = max(0, before - made.shape[1])


@torch.no_grad()
def conditions_of(networks: FrozenNetworks, takes: Sequence[Take]) -> Conditions:
    """The encoders' outputs, cut as the server cuts them."""
    pictures = to_video(np.stack([take.reference for take in takes])[:, None])
    motion = networks.vae.encode(pictures, networks.still_frames)
    return Conditions(
        reference=motion[:, :, :1],
        motion=motion,
        text=torch.cat([networks.text_rows(take.caption) for take in takes]),
        audio=torch.stack([_heard(networks, take.audio) for take in takes]),
    )


def _heard(networks: FrozenNetworks, samples: Array) -> Tensor:
    """[layers, C, frames of all blocks]."""
    stream = StreamingAudio(networks.config)
    stream.append(samples)
    stream.finish()
    windows = list(iter(stream.next_window, None))
    groups = [windows[i : i + WINDOWS] for i in range(0, len(windows), WINDOWS)]
    features = [block_features(networks.audio, group) for group in groups]
    return torch.cat(list(torch.cat(features)), -1)


class TorchSource(Source):
    """A checkpoint with the options of its rollout."""

    def __init__(
        self, dit: DiT, networks: FrozenNetworks, options: RolloutOptions, *, batch: int = 8
    ) -> None:
        self.dit, self.networks, self.options, self.batch = dit, networks, options, batch

    @torch.no_grad()
    def generate(self, takes: Sequence[Take], seed: int) -> Iterator[Array]:
        conditions = conditions_of(self.networks, takes)
        still = conditions.motion[:, :, : self.networks.config.warmup_frames]
        seeds = [sampling_seed(take, seed) for take in takes]  # whoever else is in the batch
        latents = stream(self.dit, conditions, self.options, seeds)
        yield from decoded(self.networks.vae, still, latents)


class Answers(queue.SimpleQueue[BlockFrames | str]):
    """The reply of one request, read by the thread that asked."""

    is_held = False
    traceparent = None
    send = queue.SimpleQueue.put

    def finish(self) -> None:
        self.put("")

    def fail(self, message: str) -> None:
        self.put(message or "failed")

    def cancelled(self) -> bool:
        return False


class ArtifactsSource(Source):
    """The served code on an artifacts folder, in this process: what a client would get."""

    batch = 1
    request_s = 20  # seconds of sound in a request; the next one is sent when the last is answered

    def __init__(
        self, folder: Path, options: Mapping[str, Any] | None = None, *, num_threads: int = 1
    ) -> None:
        """`options` of START, besides the sink's distance."""
        self.folder, self.num_threads, self.options = folder, num_threads, dict(options or {})
        self.executor: AvatarExecutor | None = None

    def generate(self, takes: Sequence[Take], seed: int) -> Iterator[Array]:
        if self.executor is None:  # loaded when it is first wanted
            self.executor = local_executor(self.folder, num_threads=self.num_threads)
        (take,) = takes
        avatar = AvatarOrchestrator(
            self.executor.config, self.executor, max_sessions=1, idle_timeout_s=3600
        )
        try:
            yield from self._stream(avatar, take, seed)
        finally:
            avatar.stop()

    def close(self) -> None:
        if self.executor is not None:
            self.executor.stop()

    def _stream(self, avatar: AvatarOrchestrator, take: Take, seed: int) -> Iterator[Array]:
        config = avatar.config
        size = self.request_s * config.sample_rate
        for start in range(0, len(take.audio), size):
            audio = np.clip(take.audio[start : start + size], -1, 1)
            last = start + size >= len(take.audio)
            answers, opening = Answers(), {}
            if not start:
                opening = {
                    "image": take.reference,
                    "prompt": take.caption,
                    "seed": sampling_seed(take, seed),
                    "options": Options(sink_distance=config.sink_distance, **self.options),
                }
            asked = AvatarRequest(session=1, start=not start, end=last, audio=audio, **opening)
            avatar.submit(asked, answers)
            while isinstance(answer := answers.get(), BlockFrames):
                yield answer.frames[None]
            if answer:
                raise RuntimeError(f"{self.folder}: {answer}")
