"""A model repository whose stages sleep: the real adapter and orchestrator, no arithmetic.

What remains is what the pipeline itself costs: hops, queues, copies, scheduling.
"""

import shutil
from pathlib import Path

from pipeline.config.avatar import PipelineConfig

ROOT = Path(__file__).parents[1]

# 448 x 448 pixels make latent blocks of 16 x 3 x 56 x 56 float32 = 602 kB.
CONFIG = PipelineConfig(
    preset="sleep",
    height=448,
    width=448,
    num_layers=1,
    num_heads=1,
    head_dim=8,
    text_len=1,
    text_dim=1,
    audio_layers=1,
    audio_dim=1,
    recalibrate_block=4,
)

_SLEEPER = '''"""A stage that sleeps {sleep_s} s and returns its latent (decoder: as many bytes)."""

import time

import numpy as np

from pipeline.triton.avatar import {base}


class Sleeper:
    def open(self, session, **tensors):
        pass

    def step(self, session, block, latent, **tensors):
        time.sleep({sleep_s})
        return {result}

    def close(self, session):
        pass


class TritonPythonModel({base}):
    def device(self):
        return Sleeper()
'''

_ENCODER = '''"""Answers at once with zeros of the right shape."""

import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb.InferenceResponse([{tensors}]) for _ in requests
        ]
'''


_ECHO = '''"""Returns its latent."""

import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        latents = [pb.get_input_tensor_by_name(r, "latent").as_numpy() for r in requests]
        return [pb.InferenceResponse([pb.Tensor("latent", latent)]) for latent in latents]
'''

_HOP = '''"""Sends its latent to `echo` and back, {rounds} times; returns the milliseconds."""

import time

import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        latent = pb.get_input_tensor_by_name(request, "latent").as_numpy()
        times = []
        for _ in range({rounds}):
            began = time.perf_counter()
            call = pb.InferenceRequest(
                model_name="echo",
                requested_output_names=["latent"],
                inputs=[pb.Tensor("latent", latent)],
            )
            call.exec().output_tensors()[0].as_numpy()
            times.append(1e3 * (time.perf_counter() - began))
        return pb.InferenceResponse([pb.Tensor("times_ms", np.array(times, np.float32))])
'''

_HOP_CONFIG = """name: "{name}"
backend: "python"
max_batch_size: 0
input [ {{ name: "latent", data_type: TYPE_FP32, dims: [ 1, 16, -1, -1, -1 ] }} ]
output [ {{ name: "{output}", data_type: TYPE_FP32, dims: [ {dims} ] }} ]
instance_group [ {{ kind: KIND_CPU, count: 1 }} ]
"""


def build(out: Path, sleep_s: float, max_sessions: int = 4) -> Path:
    """Write the repository to `out` (replaced) and return it."""
    shutil.rmtree(out, ignore_errors=True)
    frames = "np.zeros((12, 128, 128, 3), np.uint8)"
    for stage in range(CONFIG.num_steps):
        code = _SLEEPER.format(sleep_s=sleep_s, base="StageModel", result="latent")
        _model(out, f"dit_stage_{stage}", code, max_sessions)
    code = _SLEEPER.format(sleep_s=sleep_s, base="DecoderModel", result=frames)
    _model(out, "vae_decoder", code, max_sessions)
    _model(out, "live_avatar", None, max_sessions)
    shape = (1, CONFIG.latent_channels, CONFIG.motion_frames, *CONFIG.latent_shape[3:])
    tensors = (
        "pb.Tensor('text', np.zeros((1, 1, 1), np.float32)), "
        f"pb.Tensor('motion', np.zeros({shape}, np.float32))"
    )
    tokens = {"audio_local": CONFIG.audio_local_shape, "audio_global": CONFIG.audio_global_shape}
    zeros = [f"pb.Tensor('{n}', np.zeros({s}, np.float32))" for n, s in tokens.items()]
    _model(out, "audio_tokens", _ENCODER.format(tensors=", ".join(zeros)), max_sessions)
    _model(out, "conditioning", _ENCODER.format(tensors=tensors), max_sessions)
    return out


def add_hop(out: Path, rounds: int) -> None:
    """Add `hop`, which measures round trips between two models' processes."""
    models = [
        ("echo", _ECHO, "latent", "1, 16, -1, -1, -1"),
        ("hop", _HOP.format(rounds=rounds), "times_ms", "-1"),
    ]
    for name, code, output, dims in models:
        version = out / name / "1"
        version.mkdir(parents=True)
        config = _HOP_CONFIG.format(name=name, output=output, dims=dims)
        (out / name / "config.pbtxt").write_text(config)
        (version / "model.py").write_text(code)


def _model(out: Path, name: str, code: str | None, max_sessions: int) -> None:
    source, folder = ROOT / "model_repository" / name, out / name
    version = folder / "1"
    version.mkdir(parents=True)
    text = (source / "configs" / "cpu.pbtxt").read_text()
    text = text.replace(
        '"max_sessions" value { string_value: "2" }',
        f'"max_sessions" value {{ string_value: "{max_sessions}" }}',
    )
    if name == "conditioning":
        text = text[: text.index("ensemble_scheduling")].replace(
            'platform: "ensemble"', 'backend: "python"'
        )
        text += "instance_group [ { kind: KIND_CPU, count: 1 } ]\n"
    (folder / "configs").mkdir()
    (folder / "config.pbtxt").write_text(text)
    (folder / "configs" / "cpu.pbtxt").write_text(text)
    (version / "model.py").write_text(code or (source / "1" / "model.py").read_text())
    shutil.copytree(
        ROOT / "pipeline", version / "pipeline", ignore=shutil.ignore_patterns("__pycache__")
    )
    CONFIG.save(version / "pipeline.json")
    (version / "hashes.json").write_text("{}")  # no graphs, no weights
