"""A model repository whose stages sleep: what remains is what the pipeline itself costs, hops,
queues, copies, scheduling."""

import dataclasses
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path

from export.repository.folders import copy_code
from export.repository.pbtxt import stage_names, with_parameter, with_steps
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

SLEEP_FILE = "sleep_s"
"""Beside a sleeper's model.py: its seconds, read whenever a session opens."""
VISITS_FILE = "visits"
"""There too: a line for each block, session, block, when it began and ended (s, one clock)."""

_SLEEPER = '''"""A stage that sleeps and returns its latent (decoder: as many bytes)."""

import time
from pathlib import Path

import numpy as np

from pipeline.triton.avatar import {base}


class Sleeper:
    cache_bytes = 0

    def __init__(self):
        self.visits = Path(__file__).with_name("{visits_file}").open("w", buffering=1)

    def open(self, session, **tensors):
        self.sleep_s = float(Path(__file__).with_name("{sleep_file}").read_text())

    def step(self, session, block, latent, **tensors):
        began = time.monotonic()
        time.sleep(self.sleep_s)
        self.visits.write(f"{{session}} {{block}} {{began:.6f}} {{time.monotonic():.6f}}\\n")
        return {result}

    def sink(self, session):
        return np.zeros(1, np.uint8)

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


def build(out: Path, sleep_s: float | Sequence[float]) -> Path:
    """Write the repository to `out` (replaced) and return it. `sleep_s` is what every model sleeps,
    or what the stages, one or more, and then the decoder do."""
    shutil.rmtree(out, ignore_errors=True)
    times = list(sleep_s) if isinstance(sleep_s, Sequence) else [sleep_s] * (CONFIG.num_steps + 1)
    config = dataclasses.replace(CONFIG, num_steps=len(times) - 1)
    frames = "np.zeros((12, 128, 128, 3), np.uint8)"
    motion = (1, CONFIG.latent_channels, CONFIG.motion_frames, *CONFIG.latent_shape[3:])
    tokens = {"audio_local": CONFIG.audio_local_shape, "audio_global": CONFIG.audio_global_shape}
    files = {"sleep_file": SLEEP_FILE, "visits_file": VISITS_FILE}
    stage = _SLEEPER.format(base="StageModel", result="latent", **files)
    decoder = _SLEEPER.format(base="DecoderModel", result=frames, **files)
    steps = [[step] for step in range(config.num_steps)]
    codes = {
        **dict.fromkeys(stage_names(steps), stage),
        "vae_decoder": decoder,
        "live_avatar": (MODELS / "live_avatar" / "1" / "model.py").read_text(),
        "audio_tokens": _ENCODER.format(shapes=tokens),
        "conditioning": _ENCODER.format(shapes={"text": (1, 1, 1), "motion": motion}),
    }
    for name, code in codes.items():
        version = _write(out / name, with_steps(name, _config(name), steps), code)
        copy_code(MODELS.parent / "pipeline", version / "pipeline", without=())
        config.save(version / "pipeline.json")
        (version / "hashes.json").write_text("{}")  # no graphs, no weights
    set_times(out, times)
    return out


def set_times(repository: Path, sleep_s: Sequence[float]) -> None:
    """What the stages and then the decoder sleep in sessions that open from now on."""
    stages = [f"dit_stage_{stage}" for stage in range(len(sleep_s) - 1)]
    for model, seconds in zip([*stages, "vae_decoder"], sleep_s, strict=True):
        (repository / model / "1" / SLEEP_FILE).write_text(str(seconds))


def visits(repository: Path, blocks: range) -> list[tuple[str, int, float, float]]:
    """Model, block, and milliseconds from when to when it slept on it, for these blocks of the
    first session that was served; the first of them begins at 0."""
    found = []
    for file in sorted(repository.glob(f"*/1/{VISITS_FILE}")):
        rows = [line.split() for line in file.read_text().splitlines()]
        for session, block, began, ended in rows:
            if session == rows[0][0] and int(block) in blocks:
                found.append((file.parts[-3], int(block), float(began), float(ended)))
    start = min((began for *_, began, _ in found), default=0.0)
    return [
        (model, block, round(1e3 * (began - start), 2), round(1e3 * (ended - start), 2))
        for model, block, began, ended in found
    ]


def slowest_ms(repository: Path) -> float:
    """What the slowest model's sleeps took in truth, in the mean of all blocks so far."""
    means = []
    for file in repository.glob(f"*/1/{VISITS_FILE}"):
        times = [line.split()[2:] for line in file.read_text().splitlines()]
        means += [statistics.fmean(float(e) - float(b) for b, e in times)] if times else []
    return 1e3 * max(means)


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
    if "unread_blocks" in text:  # else what is left behind END comes at real time
        text = with_parameter(text, "unread_blocks", "100000")
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
