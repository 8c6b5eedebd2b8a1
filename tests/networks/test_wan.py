"""The Wan transformer without fixtures: keys, batches, gradients, streaming against offline."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from export.graphs.wan import load_wan
from networks.block import Sight
from networks.causal_wan import CausalWan, rope_tables, wan_key
from networks.checkpoint import build_seeded, load_checkpoint, save_checkpoint
from networks.configs import WanConfig
from networks.rolling_presets import ROLLING_PRESETS, rolling_preset
from networks.transformer import TextKeysValues
from networks.wan_stream import WanClean, WanWindow
from pipeline.denoising.positions import grid, tables
from tests.support.tiny_sizes import TINY
from tests.support.wan_masks import block_causal

CONFIG = WanConfig(**TINY, ffn_dim=32, num_layers=2)
TOLERANCE = 1e-5
"""Float32 sums in another order."""
FRAMES = 3
GRID = (2, 3)
SIZE = (4, 6)


@pytest.fixture(scope="module")
def wan() -> CausalWan:
    return build_seeded(lambda: CausalWan(CONFIG), seed=3)


def clip(batch: int, frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, CONFIG.channels, frames, *SIZE, generator=generator)


def prompt(batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    return torch.randn(batch, CONFIG.text_len, CONFIG.text_dim, generator=generator)


def test_the_loader_names_the_licence_of_released_weights(
    wan: CausalWan, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Weights for academic use only would be put to work without a word."""
    save_checkpoint(wan, tmp_path / "wan.safetensors")
    for name, spoken in (("rolling-1.3b", True), ("rolling-demo", False)):
        caplog.clear()
        small = rolling_preset(name, wan=CONFIG, height=32, width=48)
        load_wan(small, tmp_path / "wan.safetensors")
        assert ("academic use only" in caplog.text) == spoken


def test_keys_and_size_of_the_released_network() -> None:
    """The released checkpoint would not load."""
    with torch.device("meta"):
        state = CausalWan(ROLLING_PRESETS["rolling-1.3b"].wan).state_dict()
    assert len(state) == 825
    assert sum(tensor.numel() for tensor in state.values()) == 1_418_996_800
    shapes = {
        "patch_embedding.weight": [1536, 16, 1, 2, 2],
        "time_projection.1.weight": [9216, 1536],
        "blocks.29.modulation": [1, 6, 1536],
        "blocks.0.cross_attn.norm_k.weight": [1536],
        "head.modulation": [1, 2, 1536],
        "head.head.weight": [64, 1536],
    }
    assert {key: list(state[key].shape) for key in shapes} == shapes


def test_prefixes_of_the_release_are_dropped(wan: CausalWan, tmp_path: Path) -> None:
    """Its generator lies under `model.`, with a wrapper's name inside."""
    key_of = {
        name: f"model.{name}".replace("blocks.", "blocks._fsdp_wrapped_module.")
        for name in wan.state_dict()
    }
    save_checkpoint(wan, tmp_path / "wan.safetensors", key_of=key_of)
    loaded = load_checkpoint(CausalWan(CONFIG), tmp_path / "wan.safetensors", rename=wan_key)
    assert all(
        torch.equal(tensor, wan.state_dict()[name]) for name, tensor in loaded.state_dict().items()
    )


@torch.inference_mode()
def test_clips_of_a_batch_do_not_touch(wan: CausalWan) -> None:
    """Frames of all clips share one row of tokens; a wrong stride would mix clips."""
    latent, text = clip(2, 4), prompt(2)
    timesteps = torch.tensor([[900.0, 10, 500, 0], [3, 700, 1000, 250]])
    both = wan(latent, timesteps, text)
    for i in range(2):
        rows = slice(i, i + 1)
        one = wan(latent[rows], timesteps[rows], text[rows])
        assert torch.allclose(both[rows], one, atol=TOLERANCE)


def test_gradients_reach_every_parameter(wan: CausalWan) -> None:
    """A tensor that no loss moves would stay at its start for ever."""
    wan = build_seeded(lambda: CausalWan(CONFIG), seed=3).requires_grad_(True)
    latent = clip(2, 6).requires_grad_(True)
    seen = block_causal(6, FRAMES, GRID[0] * GRID[1])
    wan(latent, torch.full((2, 6), 500.0), prompt(2), seen).square().mean().backward()
    still = [n for n, p in wan.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # A bias of K or its norm's direction may cancel in the softmax, but never exactly.
    assert still == []
    assert latent.grad is not None


def test_tables_equal_those_of_the_server() -> None:
    """A network trained with other positions than it is served with."""
    frames = (0, 7, 41)
    cos, sin = rope_tables(torch.tensor(frames), GRID, 24)
    served = tables(grid(frames, GRID), 24)
    assert torch.equal(cos[0], torch.from_numpy(served[0]))
    assert torch.equal(sin[0], torch.from_numpy(served[1]))


def test_a_local_mask_sees_its_last_frames_only() -> None:
    """Frames that a served cache no longer holds."""
    seen = block_causal(9, 3, 1, local_frames=6)[0, 0]
    rows = ["111000000", "111111000", "000111111"]
    wanted = torch.tensor([[c == "1" for c in row] for row in rows for _ in range(3)])
    assert torch.equal(seen, wanted)


class Stream:
    """The streaming modules on a cache that holds every block, slot b for block b."""

    def __init__(self, wan: CausalWan, batch: int, num_blocks: int) -> None:
        self.wan, self.tokens = wan, GRID[0] * GRID[1]
        self.window, self.clean = WanWindow(wan, FRAMES), WanClean(wan, FRAMES)
        shape = (batch, CONFIG.num_heads, num_blocks * FRAMES * self.tokens, CONFIG.head_dim)
        self.names = [f"cache_{kv}_{i}" for i in range(CONFIG.num_layers) for kv in "kv"]
        self.cache = {name: torch.zeros(shape) for name in self.names}
        texts = TextKeysValues(wan)(prompt(batch))
        self.text = {n.replace("cache", "text"): t for n, t in zip(self.names, texts, strict=True)}

    def run(self, block: int, latent: Tensor, timesteps: Tensor) -> Tensor:
        """Velocity of one block after all before it, whose K/V are then stored."""
        inputs = self._inputs(block, latent, timesteps)
        head = self.wan.modulations(timesteps.flatten())[1]
        velocity = self.window(head_modulation=head, **inputs, **self.cache, **self.text)
        text = {n: t for n, t in self.text.items() if not n.endswith(f"_{CONFIG.num_layers - 1}")}
        write = torch.tensor([block * FRAMES * self.tokens])
        presents = self.clean(write_index=write, **inputs, **self.cache, **text)
        self.cache = dict(zip(self.names, presents, strict=True))
        return velocity

    def _inputs(self, block: int, latent: Tensor, timesteps: Tensor) -> dict[str, Tensor]:
        pairs = CONFIG.head_dim // 2
        places = torch.arange((block + 1) * FRAMES)
        tables = {}
        for wave, table in zip(("cos", "sin"), self.wan.rope(places, latent), strict=True):
            blocks = table.reshape(block + 1, FRAMES * self.tokens, pairs)
            tables[f"{wave}_history"] = blocks[:-1]
            tables[wave] = blocks[-1].reshape(FRAMES, self.tokens, pairs)
        return {
            "latent": latent,
            "modulation": self.wan.modulations(timesteps.flatten())[0],
            "slots": torch.arange(block),
            **tables,
        }


@torch.inference_mode()
@pytest.mark.parametrize("batch", [1, 2])
def test_streamed_blocks_equal_the_block_causal_forward(wan: CausalWan, batch: int) -> None:
    """Streaming equals offline: a cache must change nothing but the work."""
    num_blocks = 4
    latent, text = clip(batch, num_blocks * FRAMES), prompt(batch)
    timesteps = torch.linspace(0, 900, batch * num_blocks).reshape(batch, num_blocks)
    timesteps = timesteps.repeat_interleave(FRAMES, 1)
    seen = block_causal(num_blocks * FRAMES, FRAMES, GRID[0] * GRID[1])
    offline = wan(latent, timesteps, text, seen)
    stream = Stream(wan, batch, num_blocks)
    for b in range(num_blocks):
        part = slice(b * FRAMES, (b + 1) * FRAMES)
        velocity = stream.run(b, latent[:, :, part], timesteps[:, part])
        assert torch.allclose(velocity, offline[:, :, part], atol=TOLERANCE), b


@torch.inference_mode()
def test_only_differences_of_positions_matter(wan: CausalWan) -> None:
    """Endless streams count their positions from the sink."""
    latent = clip(1, 4)
    modulation, head = wan.modulations(torch.full((4,), 300.0))
    texts = wan.text_keys_values(prompt(1))
    velocities = []
    for start in (0, 900):
        cos, sin = wan.rope(torch.arange(start, start + 4), latent)
        sight = Sight(cos_q=cos, sin_q=sin, cos_k=cos, sin_k=sin)
        velocities.append(
            wan.velocity(latent, modulation, head, sight, texts, lambda _, k, v: (k, v))
        )
    assert torch.allclose(*velocities, atol=TOLERANCE)


def test_presets_agree_with_their_streams() -> None:
    """A graph of one size would be fed tensors of another."""
    big = ROLLING_PRESETS["rolling-1.3b"].stream
    assert (big.tokens_per_frame, big.cache_len, big.window_blocks) == (1560, 24 * 1560, 5)
    demo = ROLLING_PRESETS["rolling-demo"].stream
    assert demo.latent_shape == (1, 16, 3, 8, 8)
    with pytest.raises(ValueError, match=r"preset x: latent channels of transformer and VAE"):
        rolling_preset(
            "x", wan=CONFIG, vae=ROLLING_PRESETS["rolling-1.3b"].vae, height=64, width=64
        )
