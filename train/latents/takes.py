"""A clip of the DiT's training: drawn, placed in a stream, seen by the networks that stay frozen.

Most clips are cut from the middle of a stream: the sound began some blocks earlier, and features
see it. The others start their stream: before them is silence that the audio encoder never gets.
Either way the VAE encodes some frames before the first block and drops their latents, so that all
latents are those of mid-stream.

n blocks of F latents and 4 F video frames   C latent channels   h w latent size   S picture's side
L + 1 hidden states of width Ca
"""

import hashlib
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from networks.audio_encoder import AudioEncoder
from networks.audio_encoder import module_key as audio_key
from networks.checkpoint import load_checkpoint
from networks.compact_vae import CompactVAE, build_vae
from networks.text_encoder import TextEncoder
from networks.text_encoder import module_key as text_key
from networks.vae import VAE
from pipeline.avatar.audio import AudioWindow
from pipeline.config.avatar import PipelineConfig
from pipeline.sessions.text import Tokenizer
from train.encoders.features import stream_windows
from train.preset import PRESET
from train.vae.video import to_video
from train.world.clips import Clip, clip, identity_seed
from train.world.render import REGIONS
from train.world.speech import sound

LEAD_FRAMES = 9  # video frames before the first block that the VAE encodes; 1 + a multiple of 4
START_SHARE = 0.3  # share of clips that start their stream
MOST_BLOCKS_BEFORE = 10
FOCUS = ("mouth", "eyes")  # regions whose share of each latent is kept, to weigh errors with


@dataclass(frozen=True)
class FrozenNetworks:
    """What turns pictures, sound and words into the DiT's inputs."""

    config: PipelineConfig
    vae: CompactVAE | VAE
    audio: AudioEncoder
    text: TextEncoder
    folder: Path = Path()  # of their files

    @classmethod
    def load(cls, folder: Path) -> Self:
        """From vae, audio_encoder and text_encoder.safetensors; ValueError if they don't fit."""
        audio, text = AudioEncoder(PRESET.audio), TextEncoder(PRESET.text)
        load_checkpoint(audio, folder / "audio_encoder.safetensors", rename=audio_key)
        load_checkpoint(text, folder / "text_encoder.safetensors", rename=text_key)
        vae = load_checkpoint(build_vae(PRESET.vae), folder / "vae.safetensors")
        return cls(PRESET.pipeline, vae, audio, text, folder)

    @property
    def still_frames(self) -> int:
        """Frames that the reference picture is repeated for: as many latents as motion has."""
        return 1 + self.config.temporal_stride * (self.config.motion_frames - 1)

    @cached_property
    def digest(self) -> str:
        """Tells weights and audio windows apart; what only decodes does not count."""
        parts = {"audio": self.audio, "text": self.text, "vae": self.vae}
        windows = (self.config.audio_context_frames, self.config.audio_lookahead_frames)
        digest = hashlib.sha256(repr(windows).encode())
        for part, module in parts.items():
            for name, tensor in sorted(module.state_dict().items()):
                if not (part == "vae" and name.startswith("decoder")):
                    digest.update(f"{part}.{name}".encode() + tensor.numpy().tobytes())
        return digest.hexdigest()[:16]

    def text_rows(self, prompt: str) -> Tensor:
        """[1, text_len, text_dim]."""
        inputs = Tokenizer(self.config, self.folder)(prompt)
        return self.text(**{name: torch.from_numpy(value) for name, value in inputs.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """A clip, and where it lies in its stream."""

    clip: Clip  # LEAD_FRAMES, the blocks, and as many frames as the lookahead has
    windows: list[AudioWindow]  # of its blocks
    first_block: int
    kind: str
    voice: str


def draw_take(seed: int, split: str, num_blocks: int, networks: FrozenNetworks) -> Take:
    """Clip `seed` of a split, `num_blocks` long, at a place in its stream that the seed decides."""
    config, key = networks.config, identity_seed(seed, split)
    rng = np.random.default_rng([key, 0x1A7])
    per_block, size = config.video_frames_per_block, config.samples_per_frame
    starts = rng.random() < START_SHARE
    first = 0 if starts else int(rng.integers(1, MOST_BLOCKS_BEFORE + 1))
    # The mouth's muscles know what comes next: frames after the last block are drawn and dropped.
    after = config.audio_lookahead_frames
    length = (first + num_blocks) * per_block + after
    samples, kind, voice = sound(key, length * size, split)
    begin = first * per_block - LEAD_FRAMES
    heard = np.pad(samples, (max(0, -begin * size), 0))
    num_frames = LEAD_FRAMES + num_blocks * per_block + after
    drawn = clip(seed, num_frames, config.height, split, audio=heard, before=max(0, begin))
    windows = stream_windows(samples, range(first, first + num_blocks), config)
    return Take(clip=drawn, windows=windows, first_block=first, kind=kind, voice=voice)


def _region_shares(labels: np.ndarray, networks: FrozenNetworks) -> Tensor:
    """uint8 [4 T, S, S] to [T, 2, h, w]."""
    c = networks.config
    cells = labels.reshape(-1, c.temporal_stride, c.latent_height, c.spatial_stride,
                           c.latent_width, c.spatial_stride)  # fmt: skip
    shares = [(cells == REGIONS.index(name)).mean((1, 3, 5)) for name in FOCUS]
    return torch.from_numpy(np.stack(shares, 1))


def tensors(take: Take, features: Tensor, networks: FrozenNetworks) -> dict[str, Tensor]:
    """What `train.latents.clips.LatentBatch` holds of one take, without a batch dimension.
    `features` [n, L + 1, Ca, 4 F]. Regions are kept in `regions`, in the order of FOCUS."""
    drawn, config = take.clip, networks.config
    blocks = len(take.windows) * config.video_frames_per_block
    seen = slice(LEAD_FRAMES, LEAD_FRAMES + blocks)
    latents = networks.vae.encode(to_video(drawn.frames[: seen.stop])[None])[0]
    leading = 1 + (LEAD_FRAMES - 1) // config.temporal_stride
    motion = networks.vae.encode(to_video(drawn.reference[None])[None], networks.still_frames)[0]
    return {
        "latents": latents[:, leading:],
        "audio_features": features,
        "text": networks.text_rows(drawn.caption)[0],
        "reference": motion[:, :1],
        "motion": motion,
        "mouth": torch.from_numpy(np.stack(astuple(drawn.mouth), 1)[seen]),
        "regions": _region_shares(drawn.regions[seen], networks),
        "first_block": torch.tensor(take.first_block),
    }
