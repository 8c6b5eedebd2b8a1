"""B. The demo's graphs: its stage and decoder on the binding, with plans that torch runs in fp32,
against ONNX Runtime on the CPU. Six blocks; the sink is filled again before block 4.
"""

import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn

from benchmarks.gpu_experiment.device import open_device
from benchmarks.gpu_experiment.in_place import run_in_place
from benchmarks.gpu_experiment.phase import Findings
from benchmarks.gpu_experiment.runner import ROOT
from benchmarks.gpu_experiment.torch_plans import TorchPlan, TorchTensorRT, Values
from export.engines.profiles import ranges_of
from export.graphs.vae import Decode, Warmup
from networks.checkpoint import load_checkpoint
from networks.compact_vae import build_vae
from networks.dit import DiT, DiTEmbed, DiTSink, DiTStep
from networks.presets import PRESETS
from networks.transformer import TextKeysValues
from pipeline.avatar.decoder import Decoder
from pipeline.avatar.stage import Stage
from pipeline.config.avatar import PipelineConfig
from pipeline.engines.base import Array
from pipeline.engines.gpu import Gpu
from pipeline.engines.tensorrt import TensorRTEngine

DEMO = ROOT / "artifacts" / "demo"
TABLES = ("pipeline.json", "timesteps.safetensors")
CONFIG = PipelineConfig.load(DEMO / "pipeline.json")
NUM_BLOCKS, SESSION = 6, 7
MOST_ERROR = 1e-3
"""Of a latent, relative to its spread: float32 summed in another order, over four steps and six
blocks that see one another."""
MOST_LEVELS = 1
"""Of 255, of a frame: a number that stood between two levels is rounded to the other one."""
TYPES = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(uint8)": "uint8"}


def modules(device: str) -> dict[str, nn.Module]:
    """Graph -> the network that it was exported from."""
    preset = PRESETS["demo"]
    dit = load_checkpoint(DiT(preset.dit), DEMO / "dit.safetensors").to(device)
    vae = load_checkpoint(build_vae(preset.vae), DEMO / "vae.safetensors").to(device)
    return {
        "dit_text": TextKeysValues(dit),
        "dit_sink": DiTSink(dit),
        "dit_embed": DiTEmbed(dit),
        "dit_step": DiTStep(dit),
        "vae_decoder_warmup": Warmup(vae),
        "vae_decoder": Decode(vae),
    }


def plan_of(name: str, module: nn.Module) -> TorchPlan:
    """A plan with the inputs, outputs and profiles of the graph."""
    session = ort.InferenceSession(str(DEMO / f"{name}.onnx"))

    def values(side: Sequence[ort.NodeArg]) -> Values:
        return {value.name: (tuple(value.shape), TYPES[value.type]) for value in side}

    return TorchPlan(
        name=name,
        inputs=values(session.get_inputs()),
        outputs=values(session.get_outputs()),
        run=_as_tuple(module),
        profiles=ranges_of(name, CONFIG),
    )


def _as_tuple(module: nn.Module) -> Callable[..., Sequence[Tensor]]:
    def run(**inputs: Tensor) -> Sequence[Tensor]:
        found = module(**inputs)
        return found if isinstance(found, tuple) else (found,)

    return run


def loader(folder: Path, is_miniature: bool) -> Callable[[Path, int], TensorRTEngine]:
    """Writes every plan into `folder`; what loads them there."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    run_in_place()
    device = open_device(is_miniature)
    trt = TorchTensorRT(device)
    gpu = Gpu(0, device.cuda, trt)
    for name, module in modules(device.name).items():
        trt.plans[name] = plan_of(name, module)
        trt.plans[name].save(folder, gpu)
    for name in TABLES:
        shutil.copy(DEMO / name, folder)
    if not is_miniature:
        torch.cuda.synchronize()  # weights came on another stream
    return lambda path, _num_threads: TensorRTEngine(path.with_suffix(".plan"), gpu)


def inputs() -> dict[str, Array]:
    """Of a session: motion and text, and of every block latent, audio and noise."""
    c, rng = CONFIG, np.random.default_rng(0)
    size = (c.latent_channels, c.motion_frames, c.latent_height, c.latent_width)
    shapes = {
        "motion": (1, *size),
        "text": (1, c.text_len, c.text_dim),
        "latents": (NUM_BLOCKS, *c.latent_shape),
        "locals": (NUM_BLOCKS, *c.audio_local_shape),
        "globals": (NUM_BLOCKS, *c.audio_global_shape),
    }
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def opened(stage: Stage, given: Mapping[str, Array], has_reference: bool = True) -> None:
    motion = given["motion"]
    reference = motion[:, :, :1].copy() if has_reference else None
    stage.open(SESSION, motion=motion, text=given["text"], reference=reference)


def denoised(
    stage: Stage, given: Mapping[str, Array], again_at: int | None, sink: Array | None = None
) -> list[Array]:
    """A session's latents, with all steps on this one device. Before block `again_at` its sink is
    filled with another reference; with `sink` it begins with what another session computed."""
    c, motion = stage.config, given["motion"]
    opened(stage, given, has_reference=sink is None)
    distance, found = np.full(c.num_steps, c.sink_distance), []
    blocks = zip(given["latents"], given["locals"], given["globals"], strict=True)
    for block, (latent, local, overall) in enumerate(blocks):
        again = motion[:, :, 1:2].copy() if block == again_at else None
        brought = {"reference": again, "sink": None if block else sink}
        made = stage.step(SESSION, block, latent, local, overall, distance, **brought)
        found.append(np.array(made))
    stage.close(SESSION)
    return found


def decoded(decoder: Decoder, given: Mapping[str, Array], latents: Sequence[Array]) -> list[Array]:
    decoder.open(SESSION, given["motion"])
    frames = [np.array(decoder.step(SESSION, i, latent)) for i, latent in enumerate(latents)]
    decoder.close(SESSION)
    return frames


class Warned(logging.Handler):
    """What the binding warns of: a plan that could not be captured."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.words: list[str] = []
        logging.getLogger("pipeline.engines").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.words.append(record.getMessage())


def measure(findings: Findings, is_miniature: bool) -> None:
    given, steps, again_at = inputs(), list(range(CONFIG.num_steps)), CONFIG.recalibrate_block
    wanted = denoised(Stage(DEMO, steps), given, again_at)
    pictures = decoded(Decoder(DEMO), given, wanted)
    warned = Warned()
    with tempfile.TemporaryDirectory() as folder:
        load = loader(Path(folder), is_miniature)
        stage, decoder = Stage(Path(folder), steps, 1, load), Decoder(Path(folder), 1, load)
        found = denoised(stage, given, again_at)
        errors = [float(abs(a - b).max() / b.std()) for a, b in zip(found, wanted, strict=True)]
        findings.figure("relative_error_of_blocks", [float(f"{error:.2g}") for error in errors])
        findings.holds("latents_equal_onnx_runtime", max(errors) < MOST_ERROR)
        began = time.perf_counter()
        other = denoised(stage, given, None)
        findings.figure("block_ms", round(1e3 * (time.perf_counter() - began) / NUM_BLOCKS, 2))
        same = [np.array_equal(a, b) for a, b in zip(other, found, strict=True)]
        findings.holds("a_second_session_gives_the_same_bits", all(same[:again_at]))
        findings.holds("a_new_reference_is_seen", not any(same[again_at:]))
        same = [np.array_equal(a, b) for a, b in zip(other, _handed_on(stage, given), strict=True)]
        findings.holds("a_sink_that_was_sent_gives_the_same_bits", all(same))
        frames = decoded(decoder, given, wanted)
        levels = [abs(a.astype(int) - b).max() for a, b in zip(frames, pictures, strict=True)]
        findings.figure("levels_between_frames", int(max(levels)))
        findings.holds("frames_equal_onnx_runtime", max(levels) <= MOST_LEVELS)
        findings.holds("every_plan_is_captured", not warned.words)
        findings.figure("warnings", warned.words[:3])


def _handed_on(stage: Stage, given: Mapping[str, Array]) -> list[Array]:
    """Latents of a session whose sink was read from another one."""
    opened(stage, given)
    sink = stage.sink(SESSION)
    stage.close(SESSION)
    return denoised(stage, given, None, sink)
