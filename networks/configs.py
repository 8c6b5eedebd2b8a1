"""Widths, depths and heads of one network each; the sets of them that exist are in `presets`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WanConfig:
    """The Wan 2.1 text-to-video transformer, causal or not (docs/method.md section 10)."""

    dim: int
    ffn_dim: int
    freq_dim: int  # width of the sinusoidal timestep embedding
    num_heads: int
    num_layers: int
    channels: int = 16  # latent channels of noise and output
    patch_size: int = 2  # side of the square patch in latent pixels; the temporal patch is 1
    text_dim: int
    text_len: int
    """Rows of the text conditioning; those after the prompt are zero and are attended to."""
    eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.dim % self.num_heads or self.head_dim % 2:
            raise ValueError(
                f"dim {self.dim} over {self.num_heads} heads is not an even head size; RoPE turns "
                "pairs of channels"
            )
        if self.freq_dim % 2:
            raise ValueError(f"freq_dim is {self.freq_dim}, wanted an even number")

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads


@dataclass(frozen=True, slots=True, kw_only=True)
class DiTConfig(WanConfig):
    """The causal S2V DiT: Wan's transformer that also hears (docs/method.md section 10)."""

    audio_dim: int
    audio_layers: int  # hidden states that are mixed per audio frame: wav2vec2 layers + 1
    num_audio_tokens: int = 4
    """Local audio tokens per latent frame, without the learned padding token."""
    inject_layers: tuple[int, ...]  # transformer blocks after which audio is injected
    frames_per_block: int = 3  # latent frames denoised together

    def __post_init__(self) -> None:
        WanConfig.__post_init__(self)
        if self.dim % self.num_audio_tokens:
            raise ValueError(f"dim {self.dim} is not a multiple of {self.num_audio_tokens} tokens")
        if any(not 0 <= layer < self.num_layers for layer in self.inject_layers):
            raise ValueError(
                f"inject_layers {self.inject_layers} must lie in 0..{self.num_layers - 1}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class VAEConfig:
    """The Wan VAE, stride 4x8x8 (docs/method.md section 5)."""

    dim: int
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    temporal_downsample: tuple[bool, ...] = (False, True, True)

    def __post_init__(self) -> None:
        if len(self.temporal_downsample) != len(self.dim_mult) - 1:
            raise ValueError(
                f"temporal_downsample has {len(self.temporal_downsample)} entries, wanted one "
                f"between each two of the {len(self.dim_mult)} stages"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactVAEConfig:
    """The compact VAE, stride 4x8x8 as Wan's (`networks.compact_vae`)."""

    dim: int = 64  # channels at an eighth of the picture's side
    fine_dim: int = 48  # channels at a quarter
    z_dim: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioEncoderConfig:
    """wav2vec2, layer norm in the feature extractor, pre-norm layers (docs/method.md section 4)."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    conv_dim: tuple[int, ...]
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_bias: bool = True
    feat_extract_norm: str = "layer"
    do_stable_layer_norm: bool = True
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    layer_norm_eps: float = 1e-5
    hidden_act: str = "gelu"

    def __post_init__(self) -> None:
        if not len(self.conv_dim) == len(self.conv_stride) == len(self.conv_kernel):
            raise ValueError(
                f"conv_dim, conv_stride, conv_kernel have {len(self.conv_dim)}, "
                f"{len(self.conv_stride)}, {len(self.conv_kernel)} entries, wanted equal lengths"
            )
        only = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "hidden_act": "gelu"}
        for name, wanted in only.items():
            if getattr(self, name) != wanted:
                raise ValueError(f"{name} is {getattr(self, name)!r}, only {wanted!r} is built")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEncoderConfig:
    """The umT5 encoder (docs/method.md section 6)."""

    vocab: int
    dim: int
    dim_attn: int
    dim_ffn: int
    num_heads: int
    num_layers: int
    num_buckets: int = 32
