"""The release's single-device run, in PyTorch and in ONNX Runtime, from picture to frames."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from export.graphs.graph import Graph, keys_under
from export.graphs.onnx_file import export_graph
from export.graphs.vae import WEIGHTS, Encode
from networks.audio_encoder import AudioEncoder, module_key
from networks.checkpoint import load_checkpoint, save_checkpoint
from networks.vae import VAE
from pipeline.avatar.audio import normalise
from tests.golden.avatar import single_gpu
from tests.golden.avatar.dit_stream import DiTStream, TorchDriver, load_dit
from tests.golden.avatar.onnx_driver import OnnxDriver, open_graphs, open_session
from tests.golden.avatar.release_audio import release_bucket
from tests.golden.avatar.single_gpu import Array
from tests.golden.avatar.test_audio_encoder import release_features
from tests.golden.fixtures import manifest, max_abs, needs_golden, preset, tensors, weights

pytestmark = needs_golden

LIMIT, ONNX_LIMIT = 2e-5, 1e-4
"""Float32 sums in another order, and another library's kernels."""


class TorchPixels:
    """Eager PyTorch."""

    def __init__(self, vae: VAE) -> None:
        self.vae = vae

    @torch.inference_mode()
    def still(self, image: Array, num_frames: int) -> Array:
        return self.vae.encode(torch.from_numpy(image)[:, :, None], num_frames).numpy()

    @torch.inference_mode()
    def encode(self, video: Array) -> Array:
        return self.vae.encode(torch.from_numpy(video)).numpy()

    @torch.inference_mode()
    def decode(self, latents: Array) -> Array:
        return self.vae.decode(torch.from_numpy(latents))[0].numpy()


class Clip(nn.Module):
    """Encode or decode a whole clip."""

    def __init__(self, vae: VAE, decodes: bool) -> None:
        super().__init__()
        self.vae, self.decodes = vae, decodes

    def forward(self, clip: Tensor) -> Tensor:
        return self.vae.decode(clip)[0] if self.decodes else self.vae.encode(clip)


class OnnxPixels:
    """Graphs of whole clips, exported for the shapes that occur."""

    def __init__(self, vae: VAE, folder: Path) -> None:
        self.vae, self.folder = vae, folder
        self.sessions: dict[str, object] = {}

    def still(self, image: Array, num_frames: int) -> Array:
        return self._run(f"still_{num_frames}", Encode(self.vae, num_frames), image=image)

    def encode(self, video: Array) -> Array:
        return self._run("encode", Clip(self.vae, decodes=False), clip=video)

    def decode(self, latents: Array) -> Array:
        return self._run("decode", Clip(self.vae, decodes=True), clip=latents)

    def _run(self, name: str, module: nn.Module, **inputs: Array) -> Array:
        if name not in self.sessions:
            graph = Graph(
                name=name,
                module=module,
                inputs={key: torch.zeros(array.shape) for key, array in inputs.items()},
                output_names=["result"],
                key_of=keys_under(module, "vae"),
                weights_file=WEIGHTS,
            )
            self.sessions[name] = open_session(export_graph(graph, self.folder))
        return self.sessions[name].run(None, inputs)[0]  # type: ignore[attr-defined]


def check(errors: dict[str, float], limit: float) -> None:
    assert {name: error for name, error in errors.items() if not error <= limit} == {}


def test_pytorch_plays_the_single_device_run(vae: VAE) -> None:
    """Another reference, motion from pixels, or a clip's frames would be decoded otherwise."""
    dit = load_dit()
    streams = [DiTStream(TorchDriver(dit), dit) for _ in range(preset().pipeline.num_steps)]
    check(single_gpu.play(streams, TorchPixels(vae)), LIMIT)


def test_onnx_runtime_plays_the_single_device_run(
    vae: VAE, artifacts: Path, tmp_path: Path
) -> None:
    """The served graphs of the DiT, on caches in place, between graphs of whole clips."""
    dit, graphs = load_dit(), open_graphs(artifacts)
    config = preset().pipeline
    streams = [DiTStream(OnnxDriver(graphs, config), dit) for _ in range(config.num_steps)]
    save_checkpoint(vae, tmp_path / WEIGHTS)
    check(single_gpu.play(streams, OnnxPixels(vae, tmp_path)), ONNX_LIMIT)


def test_the_run_s_features_come_from_its_waveform() -> None:
    """Its clips would hear something else."""
    data, run = tensors("single_gpu_run"), manifest()["run"]
    encoder = load_checkpoint(
        AudioEncoder(preset().audio), weights("audio_encoder"), rename=module_key
    )
    waveform = data["waveform"].numpy()
    samples = normalise(waveform, float(waveform.mean()), float(waveform.var()))
    got = release_features(encoder, torch.from_numpy(samples))
    index, zero_from = release_bucket(got.shape[2], run["infer_frames"], run["sample_fps"])
    bucket = got[:, :, index.clip(max=got.shape[2] - 1)]
    bucket[:, :, zero_from if zero_from is not None else len(index) :] = 0
    wanted = data["audio_bucket"]
    assert np.abs(bucket).max() > 100 * ONNX_LIMIT
    assert max_abs(bucket[None, ..., : wanted.shape[3]], wanted) <= ONNX_LIMIT
