"""The graphs `audio_encoder` and `text_encoder`."""

from pathlib import Path

import torch

from export.checkpoint.files import open_weights
from export.graphs.graph import Graph
from networks import text_encoder
from networks.audio_encoder import AudioEncoder, AudioFeatures, module_key
from networks.checkpoint import load_checkpoint
from networks.configs import TextEncoderConfig
from networks.presets import Preset
from networks.text_encoder import TextEncoder


def audio_graph(preset: Preset, weights_dir: Path) -> Graph:
    """Any number of samples and of frames."""
    path = weights_dir / "audio_encoder.safetensors"
    encoder = load_checkpoint(AudioEncoder(preset.audio), path, rename=module_key)
    module = AudioFeatures(encoder)
    config = preset.pipeline
    num_frames = config.video_frames_per_block
    return Graph(
        name="audio_encoder",
        module=module,
        inputs={
            "samples": torch.zeros(1, config.samples_per_block),
            "frame_index": torch.zeros(num_frames, dtype=torch.int64),
            "frame_weight": torch.zeros(num_frames),
        },
        output_names=["audio_features"],
        dynamic={
            "samples": {1: "num_samples"},
            "frame_index": {0: "T"},
            "frame_weight": {0: "T"},
        },
        weights_file=path.name,
        # From the file's keys: it may bear the old names of the weight norm.
        key_of={
            f"encoder.{name}": key
            for key in open_weights(weights_dir, path.stem).infos
            if (name := module_key(key)) is not None
        },
    )


def text_graph(preset: Preset, weights_dir: Path) -> Graph:
    """As `text_graph_of`, for an avatar's preset."""
    return text_graph_of(preset.text, preset.pipeline.text_len, weights_dir)


def text_graph_of(config: TextEncoderConfig, text_len: int, weights_dir: Path) -> Graph:
    """A prompt of up to `text_len` tokens, for either system."""
    path = weights_dir / "text_encoder.safetensors"
    with torch.device("meta"):
        encoder = TextEncoder(config)
    load_checkpoint(encoder, path, rename=text_encoder.module_key)
    shape = (1, text_len)
    return Graph(
        name="text_encoder",
        module=encoder,
        inputs={
            "token_ids": torch.zeros(shape, dtype=torch.int64),
            "token_mask": torch.ones(shape, dtype=torch.int64),
        },
        output_names=["text"],
        weights_file=path.name,
        key_of={
            text_encoder.module_key(key): key for key in open_weights(weights_dir, path.stem).infos
        },
    )
