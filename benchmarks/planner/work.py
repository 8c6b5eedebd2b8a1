"""What passes of the networks take, counted on the modules that the graphs are exported from.

Nothing is computed: the modules run on tensors without memory, and PyTorch counts the products. A
transformer whose graph is not ours is counted by the same formula; a test holds the two together.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from export.presets import builders
from networks.compact_vae import build_vae
from networks.configs import WanConfig
from networks.dit import DiT, DiTStep
from networks.graph_inputs import Shape, audio_inputs, dtype_of, step_inputs
from networks.presets import Preset

ATTENTION = ("bmm", "attention")
"""In names of operators: attention, whole or taken apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Of one pass: operations (multiply and add are two), and what passes through memory."""

    linear: float = 0.0
    attention: float = 0.0
    convolution: float = 0.0  # of a VAE
    activations: float = 0.0
    """Tokens × width × layers: what the operations between the products read and write."""

    def __add__(self, other: "Work") -> "Work":
        return Work(
            linear=self.linear + other.linear,
            attention=self.attention + other.attention,
            convolution=self.convolution + other.convolution,
            activations=self.activations + other.activations,
        )

    def __mul__(self, times: float) -> "Work":
        return Work(
            linear=times * self.linear,
            attention=times * self.attention,
            convolution=times * self.convolution,
            activations=times * self.activations,
        )

    @property
    def flop(self) -> float:
        return self.linear + self.attention + self.convolution


def transformer_pass(wan: WanConfig, queries: int, keys: int) -> Work:
    """A pass of `queries` tokens that see `keys` tokens and the prompt, whose K and V are there."""
    products = wan.num_layers * (6 * wan.dim + 2 * wan.ffn_dim)
    seen = wan.num_layers * (keys + wan.text_len)
    return Work(
        linear=2 * queries * wan.dim * products,
        attention=4 * queries * wan.dim * seen,
        activations=queries * wan.dim * wan.num_layers,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AvatarWork:
    """Of an avatar's deployment, by what runs when."""

    step: Work  # a denoising step on a full cache
    first_step: Work  # of block 0, which sees the sink and itself
    prefill: Work  # of the sink
    decode: Work  # frames of a block
    warm_up: Work  # of the decoder, at START
    encode: Work  # of the picture to motion latents, at START
    encode_frame: Work  # of one frame alone
    text: Work  # the prompt through its encoder, at START
    audio: Work  # the tokens that a block hears; its encoder is small beside it


@functools.cache
def avatar_work(preset: Preset) -> AvatarWork:
    """Count the preset's modules; some seconds at 14B."""
    with torch.device("meta"), torch.no_grad():
        text = builders(preset)["text_encoder"]()
        encoded = 2 * preset.pipeline.text_len * sum(p.numel() for p in _layers_of(text))
        return AvatarWork(**_dit(preset), **_vae(preset), text=Work(linear=encoded))


def _dit(preset: Preset) -> dict[str, Work]:
    config, dit = preset.pipeline, DiT(preset.dit)
    step, full = DiTStep(dit), step_inputs(config)
    per_token = config.num_heads * config.head_dim * config.num_layers
    block, sink = config.tokens_per_block * per_token, config.num_sink_tokens * per_token
    return {
        "step": counted(step, full, block),
        "first_step": counted(step, step_inputs(config, num_blocks=1), block),
        "prefill": counted(step, _sink_inputs(full, config.num_sink_tokens), sink),
        "audio": counted(dit.casual_audio_encoder, audio_inputs(config)),
    }


def _vae(preset: Preset) -> dict[str, Work]:
    config, vae = preset.pipeline, build_vae(preset.vae)
    latent = torch.zeros(config.latent_shape)
    motion = latent.new_zeros(*latent.shape[:2], config.warmup_frames, *latent.shape[3:])
    picture = torch.zeros(1, 3, 1, config.height, config.width)
    still = 1 + config.temporal_stride * (config.motion_frames - 1)
    _, state = vae.decode(motion)
    return {
        "decode": _convolutions(lambda: vae.decode(latent, state)),
        "warm_up": _convolutions(lambda: vae.decode(motion)),
        "encode": _convolutions(lambda: vae.encode(picture, num_frames=still)),
        "encode_frame": _convolutions(lambda: vae.encode(picture)),
    }


def _convolutions(run: Callable[[], object]) -> Work:
    with FlopCounterMode(display=False) as counter:
        run()
    return Work(convolution=counter.get_total_flops())


def counted(module: nn.Module, shapes: Mapping[str, Shape], activations: float = 0.0) -> Work:
    """One pass of `module` over inputs of `shapes`; called with torch's device set to meta."""
    inputs: dict[str, Tensor] = {n: torch.zeros(s, dtype=dtype_of(n)) for n, s in shapes.items()}
    with FlopCounterMode(display=False) as counter:
        module(**inputs)
    by_kind = {"attention": 0, "convolution": 0, "linear": 0}
    for operator, flop in counter.get_flop_counts()["Global"].items():
        name = str(operator)
        kind = "convolution" if "convolution" in name else "linear"
        by_kind["attention" if any(part in name for part in ATTENTION) else kind] += flop
    return Work(**by_kind, activations=activations)


def _sink_inputs(step: Mapping[str, Shape], tokens: int) -> dict[str, Shape]:
    """Of the step's graph when it fills the sink: one frame of the sink's tokens, no audio cost."""
    shapes = dict(step)
    pairs, dim = shapes["cos_q"][-1], shapes["tokens"][-1]
    shapes |= {"tokens": (1, tokens, dim), "actor_mask": (1, 1, tokens, 1)}
    shapes |= dict.fromkeys(("cos_q", "sin_q", "cos_k", "sin_k"), (1, tokens, pairs))
    for name in ("audio_local", "audio_global"):
        actors, _, *rest = shapes[name]
        shapes[name] = (actors, 1, *rest)
    return shapes


def _layers_of(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that every token is multiplied with: not those of tables."""
    return [p for n, p in network.named_parameters() if p.dim() > 1 and "embedding" not in n]
