"""The release's own code, where its owner has a checkout with weights and GPUs. Nothing is fetched.

Its program is run twice, for few and for more clips. What the second takes longer is the steady
state: loading and the first clip cancel out, and no word of its log has to be understood.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

PROGRAM = "minimal_inference/s2v_streaming_interact.py"
SETTINGS = "liveavatar/configs/s2v_causal_sft.yaml"
WEIGHTS = "ckpt/Wan2.2-S2V-14B"
LORA = "ckpt/LiveAvatar/liveavatar.safetensors"
PICTURE, SOUND = "examples/dwarven_blacksmith.jpg", "examples/dwarven_blacksmith.wav"
NEEDED = (PROGRAM, SETTINGS, WEIGHTS, LORA, PICTURE, SOUND)
FRAMES = 48
"""Of a clip."""
FEW, MORE = 2, 8
"""Clips."""
GPUS = 5
"""Four steps and the decoder."""
LIMIT_S = 3600.0
NOT_ASKED = "its owner's checkout was not given: --release PATH"


def measure(checkout: Path | None) -> dict[str, Any]:
    """`fps` of the steady state, or `not_measured` with the reason."""
    if checkout is None:
        return {"not_measured": NOT_ASKED}
    if missing := what_is_missing(checkout):
        return {"not_measured": f"{checkout} lacks {', '.join(missing)}"}
    try:
        few, more = (seconds(checkout, clips) for clips in (FEW, MORE))
    except (OSError, subprocess.SubprocessError) as error:
        return {"not_measured": str(error)[:300]}
    return found(few, more)


def what_is_missing(checkout: Path) -> list[str]:
    """Files and programs, in words."""
    missing = [name for name in NEEDED if not (checkout / name).exists()]
    if shutil.which("torchrun") is None:
        missing.append("the program torchrun (its environment is to be active)")
    return missing


def found(few_s: float, more_s: float) -> dict[str, Any]:
    """From the seconds of both runs."""
    if more_s <= few_s:
        return {"not_measured": f"{MORE} clips took {more_s:.0f} s, {FEW} took {few_s:.0f} s"}
    fps = (MORE - FEW) * FRAMES / (more_s - few_s)
    return {"not_measured": "", "fps": round(fps, 2), "gpus": GPUS, "size": "720*400"}


def command(clips: int) -> list[str]:
    """As its own script for five GPUs calls it, with the LoRA as a file: by its name on a hub it
    would be fetched."""
    options = {
        "--ulysses_size": 1,
        "--task": "s2v-14B",
        "--size": "720*400",
        "--base_seed": 420,
        "--training_config": SETTINGS,
        "--offload_model": False,
        "--prompt": "a person talks to the camera",
        "--image": PICTURE,
        "--audio": SOUND,
        "--infer_frames": FRAMES,
        "--lora_path_dmd": LORA,
        "--sample_steps": 4,
        "--sample_guide_scale": 0,
        "--num_clip": clips,
        "--num_gpus_dit": GPUS - 1,
        "--sample_solver": "euler",
        "--ckpt_dir": WEIGHTS,
    }
    given = [str(part) for pair in options.items() for part in pair]
    flags = ["--convert_model_dtype", "--load_lora", "--enable_vae_parallel"]
    return ["torchrun", f"--nproc_per_node={GPUS}", PROGRAM, *given, *flags]


def seconds(checkout: Path, clips: int) -> float:
    """A whole run, from start to end; CalledProcessError if it fails."""
    began = time.monotonic()
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    with subprocess.Popen(
        command(clips), cwd=checkout, env=offline, stdout=subprocess.DEVNULL
    ) as process:
        try:
            code = process.wait(LIMIT_S)
        finally:
            process.kill()
    if code:
        raise subprocess.CalledProcessError(code, "its program")
    return time.monotonic() - began


def words(said: dict[str, Any]) -> str:
    """For people."""
    if reason := said["not_measured"]:
        return f"not measured: {reason}"
    return f"{said['fps']} frames/s on {said['gpus']} GPUs at {said['size']}"
