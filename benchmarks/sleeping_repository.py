"""A model repository whose stages sleep: what remains is what the pipeline itself costs, hops,
queues, copies, scheduling."""

import shutil
from pathlib import Path

from export.repository.folders import copy_code
from export.repository.pbtxt import with_parameter
from pipeline.config.avatar import PipelineConfig

MODELS = Path(__file__).parents[1] / "model_repository"
MAX_SESSIONS = 4

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
    cache_bytes = 0

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
        zeros = [pb.Tensor(n, np.zeros(s, np.float32)) for n, s in {shapes}.items()]
        return [pb.InferenceResponse(zeros) for _ in requests]
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


def build(out: Path, sleep_s: float) -> Path:
    """Write the repository to `out` (replaced) and return it."""
    shutil.rmtree(out, ignore_errors=True)
    frames = "np.zeros((12, 128, 128, 3), np.uint8)"
    motion = (1, CONFIG.latent_channels, CONFIG.motion_frames, *CONFIG.latent_shape[3:])
    tokens = {"audio_local": CONFIG.audio_local_shape, "audio_global": CONFIG.audio_global_shape}
    stage = _SLEEPER.format(sleep_s=sleep_s, base="StageModel", result="latent")
    codes = {
        **{f"dit_stage_{step}": stage for step in range(CONFIG.num_steps)},
        "vae_decoder": _SLEEPER.format(sleep_s=sleep_s, base="DecoderModel", result=frames),
        "live_avatar": (MODELS / "live_avatar" / "1" / "model.py").read_text(),
        "audio_tokens": _ENCODER.format(shapes=tokens),
        "conditioning": _ENCODER.format(shapes={"text": (1, 1, 1), "motion": motion}),
    }
    for name, code in codes.items():
        version = _write(out / name, _config(name), code)
        copy_code(MODELS.parent / "pipeline", version / "pipeline", without=())
        CONFIG.save(version / "pipeline.json")
        (version / "hashes.json").write_text("{}")  # no graphs, no weights
    return out


def add_hop(out: Path, rounds: int) -> None:
    """Add `hop`, which measures round trips between two models' processes."""
    echo = _HOP_CONFIG.format(name="echo", output="latent", dims="1, 16, -1, -1, -1")
    _write(out / "echo", echo, _ECHO)
    hop = _HOP_CONFIG.format(name="hop", output="times_ms", dims="-1")
    _write(out / "hop", hop, _HOP.format(rounds=rounds))


def _config(name: str) -> str:
    text = (MODELS / name / "configs" / "cpu.pbtxt").read_text()
    if "max_sessions" in text:
        text = with_parameter(text, "max_sessions", str(MAX_SESSIONS))
    if name == "conditioning":
        text = text[: text.index("ensemble_scheduling")]
        text = text.replace('platform: "ensemble"', 'backend: "python"')
        text += "instance_group [ { kind: KIND_CPU, count: 1 } ]\n"
    return text


def _write(folder: Path, config: str, code: str) -> Path:
    """A Python model's folder; returns that of its version."""
    version = folder / "1"
    version.mkdir(parents=True)
    (folder / "configs").mkdir()
    for name in ("config.pbtxt", "configs/cpu.pbtxt"):
        (folder / name).write_text(config)
    (version / "model.py").write_text(code)
    return version
