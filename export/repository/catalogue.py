"""What every model of the repository loads, for both systems. Standard library only.

A model's folder holds its configuration, its code if it is served by Python, and its files: on a
CPU the graphs and the weights that they point into, on a GPU plans made from them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

TOKENIZER = "tokenizer.json"


class Role(Enum):
    """What a model is for, which says who runs it and what it holds."""

    PUBLIC = "public"
    """Clients call it; Python, on the CPU. It holds sessions and tokenises their prompts."""
    ENSEMBLE = "ensemble"
    """Triton calls others in its place."""
    DENOISER = "denoiser"
    """Holds the KV caches of sessions; Python in a process of its own, on a GPU."""
    DECODER = "decoder"
    """Holds the decoder's state of sessions; likewise."""
    POSE = "pose"
    """Holds sessions' state at the encoder of pose videos; likewise, where it is asked for."""
    ENCODER = "encoder"
    """Holds nothing; a plan is run by Triton's own TensorRT backend, in the server's process."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model; `dit_stage` stands for dit_stage_0, dit_stage_1, …"""

    name: str
    role: Role
    graphs: tuple[str, ...] = ()  # the first is the one that holds the sessions' buffers
    weights: str = ""  # component of the export that its graphs point into
    table: str = ""  # what is read beside graphs and plans alike

    @property
    def holds_sessions(self) -> bool:
        return self.role in (Role.PUBLIC, Role.DENOISER, Role.DECODER, Role.POSE)

    def files_in(self, artifacts: Path) -> list[str]:
        """Files of an export that it cannot do without, served on a CPU: graphs, the shards of
        their weights or else one file, the table."""
        shards = sorted(path.name for path in artifacts.glob(f"{self.weights}-*-of-*.safetensors"))
        weights = shards or [f"{self.weights}.safetensors"]
        files = [*(f"{name}.onnx" for name in self.graphs), *weights]
        return [*files, *filter(None, [self.table])] if self.graphs else []


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Models that are served together, of one export."""

    config: str  # the file of numbers that every Python model reads
    models: tuple[Model, ...]
    without: tuple[str, ...]  # parts of `pipeline` that none of its models imports

    def _one(self, role: Role) -> Model:
        (found,) = (model for model in self.models if model.role is role)
        return found

    @property
    def denoiser(self) -> Model:
        return self._one(Role.DENOISER)

    @property
    def decoder(self) -> Model:
        return self._one(Role.DECODER)

    @property
    def encoders(self) -> list[Model]:
        return [model for model in self.models if model.role is Role.ENCODER]

    @property
    def pose(self) -> list[Model]:
        """What is there if pose videos are to be taken."""
        return [model for model in self.models if model.role is Role.POSE]

    @property
    def graphs(self) -> list[str]:
        """Every graph that is always served, each once, the one that tells most of a deployment
        first."""
        order = (self.denoiser, self.decoder, *self.encoders)
        return [graph for model in order for graph in model.graphs]

    @property
    def pose_graphs(self) -> list[str]:
        """Those of `pose`."""
        return [graph for model in self.pose for graph in model.graphs]


AVATAR = System(
    config="pipeline.json",
    without=("rolling", "triton/rolling.py"),
    models=(
        Model("live_avatar", Role.PUBLIC),
        Model("conditioning", Role.ENSEMBLE),
        Model(
            "dit_stage",
            Role.DENOISER,
            graphs=("dit_step", "dit_embed", "dit_sink", "dit_text"),
            weights="dit",
            table="timesteps.safetensors",
        ),
        Model("vae_decoder", Role.DECODER, ("vae_decoder", "vae_decoder_warmup"), "vae"),
        Model("pose_encoder", Role.POSE, ("pose_encoder", "pose_encoder_start"), "vae"),
        Model("vae_encoder", Role.ENCODER, ("vae_encoder",), "vae"),
        Model("audio_encoder", Role.ENCODER, ("audio_encoder",), "audio_encoder"),
        Model("audio_tokens", Role.ENCODER, ("audio_tokens",), "dit"),
        Model("text_encoder", Role.ENCODER, ("text_encoder",), "text_encoder"),
    ),
)
ROLLING = System(
    config="rolling.json",
    without=("avatar", "pictures", "triton/avatar.py"),
    models=(
        Model("rolling_forcing", Role.PUBLIC),
        Model(
            "dit_window",
            Role.DENOISER,
            graphs=("dit_window", "dit_clean", "dit_text", "dit_recache"),
            weights="wan",
            table="window_timesteps.safetensors",
        ),
        Model("rolling_vae_decoder", Role.DECODER, ("vae_decoder", "vae_decoder_first"), "vae"),
        Model("rolling_text_encoder", Role.ENCODER, ("text_encoder",), "text_encoder"),
    ),
)
SYSTEMS = (AVATAR, ROLLING)
SPARE = "dit_spare"
"""A stage that stands in for any other, where it is asked for."""
KINDS = {model.name: model for system in SYSTEMS for model in system.models}
KINDS[SPARE] = AVATAR.denoiser


def kind_of(name: str) -> Model | None:
    """The catalogue's entry of a model of the repository, None if there is none."""
    return KINDS.get(re.sub(r"_\d+$", "", name))


def system_of(model: Model) -> System:
    """The system whose model it is."""
    return next(system for system in SYSTEMS if model in system.models)


def system_in(artifacts: Path) -> System:
    """The system whose export lies in a folder; the avatar's if neither does."""
    is_avatar, is_rolling = ((artifacts / s.config).is_file() for s in SYSTEMS)
    return ROLLING if is_rolling and not is_avatar else AVATAR


def folder_of(model: Model, folders: Sequence[Path]) -> Path:
    """The export whose files a model reads; if there is none the first, to be found wanting."""
    wanted = system_of(model)
    return next((f for f in folders if system_in(f) is wanted), folders[0])
