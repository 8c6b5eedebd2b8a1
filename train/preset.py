"""The sizes of the avatar that is trained here."""

from networks.presets import (
    AudioEncoderConfig,
    CompactVAEConfig,
    DiTConfig,
    TextEncoderConfig,
    preset_of,
)

PRESET = preset_of(
    "demo",
    dit=DiTConfig(
        dim=128,
        ffn_dim=512,
        freq_dim=64,
        num_heads=2,
        num_layers=6,
        patch_size=1,
        text_dim=64,
        text_len=160,
        audio_dim=64,
        audio_layers=5,
        inject_layers=(0, 2, 4),
    ),
    vae=CompactVAEConfig(),
    audio=AudioEncoderConfig(
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=128,
        conv_dim=(32,) * 7,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=4,
    ),
    text=TextEncoderConfig(vocab=259, dim=64, dim_attn=64, dim_ffn=128, num_heads=2, num_layers=2),
    height=64,
    width=64,
    audio_context_frames=50,
    audio_lookahead_frames=2,
)
