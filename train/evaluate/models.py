"""From the files that were given to the source of frames that a setting asks for."""

import hashlib
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path

from networks.checkpoint import load_checkpoint
from networks.compact_vae import build_vae
from networks.dit import DiT
from train.evaluate import sources
from train.evaluate.settings import Setting, Sweep
from train.latents.takes import FrozenNetworks
from train.network import quick_layers
from train.network.stream_network import RolloutOptions
from train.preset import PRESET

ROOT = Path(__file__).parents[2]
MEASURING = (  # code whose change makes old figures worthless
    *("train/world", "train/vae/video.py", "train/evaluate/run.py", "train/evaluate/sources.py"),
    *(f"train/evaluate/metrics{name}.py" for name in ("", "_motion", "_picture")),
)
ROLLING_OUT = (  # the same for streams made in torch
    *("train/network", "train/latents/takes.py", "train/encoders/features.py"),
    *("pipeline/rolling/plan.py", "pipeline/denoising/schedule.py"),
)


class MissingFileError(ValueError):
    """A setting can't be measured with the files that were given."""


@cache
def digest(path: Path) -> str:
    """Of a file, or a folder's but for what Python compiled; FileNotFoundError without any."""
    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix != ".pyc")
    if not files:
        raise FileNotFoundError(f"{path} has no files")
    total = hashlib.sha256()
    for file in files:
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:16]


@dataclass(slots=True)
class Models:
    """What is there to be judged."""

    weights: Path | None = None  # VAE and encoders; the VAE alone does for the cap
    checkpoints: dict[str, Path] = field(default_factory=dict)  # student, teacher, sinkless, …
    artifacts: Path | None = None
    human: Path | None = None
    guidance: float = 1.0  # of the teacher, as its history; see `RolloutOptions`
    teacher_history: str = "own level"
    batch: int = 8
    num_threads: int = 1
    products: str = "float32"  # of a DiT's matrix products; see `train.network.quick_layers`
    _networks: FrozenNetworks | None = None
    _dits: dict[str, DiT] = field(default_factory=dict)

    def needed(self, setting: Setting) -> list[Path]:
        """The files that a setting's frames follow from; `MissingFileError` if one is not there."""
        files: list[Path] = []
        if setting.kind == "given":
            files.append(_given(self.human, "a recording (--human)"))
        if setting.model == "served":
            files.append(_given(self.artifacts, "an artifacts folder (--artifacts)"))
        elif setting.model != "truth":
            folder = _given(self.weights, "trained weights (--weights)")
            names = ["vae"]
            if setting.model != "vae":
                names += ["audio_encoder", "text_encoder"]
                checkpoint = self.checkpoints.get(setting.model)
                files.append(_given(checkpoint, f"a checkpoint (--{setting.model})"))
            files += [_given(folder / f"{name}.safetensors", name) for name in names]
        return files

    def rollout(self, setting: Setting) -> dict[str, object]:
        """The options of a setting; `MissingFileError` if one of them does not exist."""
        options = dict(setting.rollout)
        if setting.model == "served":
            return options
        if setting.model == "teacher":
            options["guidance"] = self.guidance
            options["history"] = self.teacher_history
        known = {f.name for f in fields(RolloutOptions)}
        if unknown := sorted(set(options) - known):
            raise MissingFileError(f"the rollout has no option {unknown[0]}")
        return options

    def fingerprint(self, setting: Setting, sweep: Sweep) -> str:
        """Equal for equal figures: of files, options and the code that measures."""
        rolled = setting.model not in ("truth", "vae", "served")
        code = (*MEASURING, *ROLLING_OUT) if rolled else MEASURING
        files = [*self.needed(setting), *(ROOT / name for name in code)]
        options = sorted(self.rollout(setting).items())
        if rolled and self.products != "float32":
            options.append(("products", self.products))
        if sweep.split != "test":
            options.append(("split", sweep.split))
        asked = (setting.model, options, setting.kind, setting.seconds, setting.mood,
                 setting.piece_every, sweep.num_others)  # fmt: skip
        text = "".join(digest(file) for file in files) + repr(asked)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def source(self, setting: Setting) -> sources.Source:
        self.needed(setting)
        if setting.model == "truth":
            return sources.TruthSource()
        if setting.model == "served":
            assert self.artifacts is not None
            options = self.rollout(setting)
            return sources.ArtifactsSource(self.artifacts, options, num_threads=self.num_threads)
        assert self.weights is not None
        if setting.model == "vae":
            vae = load_checkpoint(build_vae(PRESET.vae), self.weights / "vae.safetensors")
            return sources.ReconstructionSource(vae)
        return self._rolled_out(setting)

    def _rolled_out(self, setting: Setting) -> sources.Source:
        if self._networks is None:
            assert self.weights is not None
            self._networks = FrozenNetworks.load(self.weights)
        if setting.model not in self._dits:
            path = self.checkpoints[setting.model]
            self._dits[setting.model] = load_checkpoint(DiT(PRESET.dit), path)
        options = RolloutOptions(**self.rollout(setting))
        dit = self._dits[setting.model]
        quick_layers.set_products(self.products)
        return sources.TorchSource(dit, self._networks, options, batch=self.batch)


def _given(path: Path | None, what: str) -> Path:
    if path is None:
        raise MissingFileError(f"no {what.removeprefix('a ').removeprefix('an ')} was given")
    if not path.exists():
        raise MissingFileError(f"{path} is not there: {what}")
    return path
