"""wav2vec2 and the choice of its frames against the release."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from export.graphs.encoders import audio_graph
from export.graphs.onnx_file import export_graph
from networks.audio_encoder import AudioEncoder, AudioFeatures, module_key
from networks.checkpoint import build_seeded, load_checkpoint, save_checkpoint
from networks.presets import Preset
from pipeline.avatar.audio import (
    StreamingAudio,
    normalise,
    num_hidden_frames,
)
from tests.golden.avatar.onnx_driver import open_session
from tests.golden.avatar.release_audio import release_bucket, release_places
from tests.golden.fixtures import (
    keys_like,
    manifest,
    max_abs,
    needs_golden,
    preset,
    tensors,
    weights,
)

pytestmark = needs_golden

TOLERANCE = 1e-4
"""The fixtures' own for audio; 24 layers of float32 sums in another order reach 1e-5."""

NAMES = ("samples", "frame_index", "frame_weight")
Inputs = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def encoder() -> AudioEncoder:
    return load_checkpoint(
        AudioEncoder(preset().audio), weights("audio_encoder"), rename=module_key
    )


@pytest.fixture(scope="module")
def io() -> dict[str, Tensor]:
    return tensors("audio_io")


def features(encoder: AudioEncoder, samples: Tensor, places: tuple) -> np.ndarray:
    """[L + 1, C, T]"""
    index, weight = (torch.from_numpy(place) for place in places)
    return AudioFeatures(encoder)(samples, index, weight)[0].numpy()


def release_features(encoder: AudioEncoder, samples: Tensor) -> np.ndarray:
    return features(encoder, samples, release_places(num_hidden_frames(samples.shape[1])))


def test_whole_files_are_normalised_as_in_the_release(io: dict[str, Tensor]) -> None:
    """The encoder was trained on unit variance."""
    waveform = io["waveform"].numpy()
    got = normalise(waveform, float(waveform.mean()), float(waveform.var()))
    assert max_abs(got, io["input_values"]) <= 1e-5  # float32 mean and variance


def test_hidden_states(encoder: AudioEncoder, io: dict[str, Tensor]) -> None:
    """The first is the encoder's input and the last passes a norm; both are easily missed."""
    hidden = encoder(io["input_values"])
    assert hidden.shape[1] == manifest()["audio"]["num_frames_50hz"]
    assert hidden.shape[1] == num_hidden_frames(io["input_values"].shape[1])
    for key, layers in keys_like(io, r"hidden_states_layers(_\d+)+").items():
        assert max_abs(hidden[list(layers)], io[key]) <= TOLERANCE, key


def first_features(io: dict[str, Tensor]) -> np.ndarray:
    """[L + 1, C, T], as many as the fixtures hold: all are the first ones, some hold more."""
    found = [io[key] for key in keys_like(io, r"features_30fps(_first\d+)?")]
    return max(found, key=lambda features: features.shape[1]).numpy().transpose(0, 2, 1)


def test_features_at_30_per_second(encoder: AudioEncoder, io: dict[str, Tensor]) -> None:
    """Interpolation between hidden frames, stretched to the file's end."""
    got = release_features(encoder, io["input_values"])
    wanted = first_features(io)
    assert got.shape[2] == manifest()["audio"]["num_frames_30fps"]
    assert max_abs(got[:, :, : wanted.shape[2]], wanted) <= TOLERANCE


def test_bucket_of_video_frames(encoder: AudioEncoder, io: dict[str, Tensor]) -> None:
    """What the DiT gets in the release."""
    got = release_features(encoder, io["input_values"])
    run = manifest()["run"]
    index, zero_from = release_bucket(got.shape[2], run["infer_frames"], run["sample_fps"])
    bucket = got[:, :, index.clip(max=got.shape[2] - 1)]
    bucket[:, :, zero_from if zero_from is not None else len(index) :] = 0
    assert max_abs(bucket[None], io["bucket"]) <= TOLERANCE


def test_index_tables() -> None:
    """Other lengths and frame rates, exact."""
    for table in manifest()["audio_index_tables"]:
        index, zero_from = release_bucket(
            table["frames_30fps"], table["infer_frames"], table["fps"]
        )
        wanted = table["indices"]  # long tables are cut
        assert len(index) == table["num_repeat"] * table["infer_frames"]
        assert index[: len(wanted)].tolist() == wanted
        assert zero_from == table["zero_from"]


def test_old_names_of_the_weight_norm_load(encoder: AudioEncoder, tmp_path: Path) -> None:
    """Older checkpoints name its two parts weight_g and weight_v."""
    from safetensors.torch import save_file

    state = {
        key.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor.contiguous()
        for key, tensor in encoder.state_dict().items()
    }
    assert any(key.endswith("weight_g") for key in state)
    save_file(state | {"lm_head.weight": torch.zeros(2, 2)}, tmp_path / "old.safetensors")
    old = AudioEncoder(preset().audio)
    load_checkpoint(old, tmp_path / "old.safetensors", rename=module_key)
    samples = torch.randn(1, 4000)
    assert torch.equal(old(samples), encoder(samples))


def graph_outputs(folder: Path, golden: Preset, windows: list[Inputs]) -> list[np.ndarray]:
    """The exported graph's features [L + 1, C, T] for each window."""
    session = open_session(export_graph(audio_graph(golden, folder), folder))
    return [session.run(None, inputs)[0][0] for inputs in windows]


def stream_windows(waveform: Tensor) -> list[Inputs]:
    """The growing windows of a stream."""
    config = preset().pipeline
    stream, inputs = StreamingAudio(config), []
    blocks = 4 + config.audio_context_frames // config.video_frames_per_block
    stream.append(np.resize(waveform.numpy(), blocks * config.samples_per_block))
    while window := stream.next_window():
        inputs.append({name: getattr(window, name) for name in NAMES})
    assert len({window["samples"].shape[1] for window in inputs}) > 3
    return inputs


def test_graph_takes_windows_of_any_length(io: dict[str, Tensor], tmp_path: Path) -> None:
    """A stream's windows grow until the context is full. Two layers show it as well as 24."""
    golden = preset()
    audio = dataclasses.replace(golden.audio, num_hidden_layers=2)
    small = dataclasses.replace(
        golden,
        audio=audio,
        dit=dataclasses.replace(golden.dit, audio_layers=3),
        pipeline=dataclasses.replace(golden.pipeline, audio_layers=3),
    )
    encoder = build_seeded(lambda: AudioEncoder(audio), seed=0)
    save_checkpoint(encoder, tmp_path / "audio_encoder.safetensors")
    windows = stream_windows(io["waveform"])
    for got, window in zip(graph_outputs(tmp_path, small, windows), windows, strict=True):
        samples, *places = (window[name] for name in NAMES)
        wanted = features(encoder, torch.from_numpy(samples), tuple(places))
        assert max_abs(got, wanted) <= TOLERANCE


def test_graph_with_the_release_s_weights(io: dict[str, Tensor], artifacts: Path) -> None:
    """The served graph against the release itself."""
    index, weight = release_places(manifest()["audio"]["num_frames_50hz"])
    whole = dict(zip(NAMES, (io["input_values"].numpy(), index, weight), strict=True))
    (got,) = open_session(artifacts / "audio_encoder.onnx").run(None, whole)[0]
    wanted = first_features(io)
    assert max_abs(got[:, :, : wanted.shape[2]], wanted) <= TOLERANCE
