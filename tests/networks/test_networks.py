"""Facts of presets, checkpoints and the DiT's parameters that need no fixtures."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from networks.checkpoint import build_seeded, load_checkpoint, save_checkpoint
from networks.dit import DiT, DiTStep
from networks.graph_inputs import dtype_of, step_inputs, step_outputs
from networks.presets import PRESETS
from pipeline.denoising.schedule import MAX_STEPS, Schedule, known_timesteps

GOLDEN_ROOT = Path(os.environ.get("GOLDEN_ROOT", Path(__file__).parents[3] / "shared" / "golden"))
KEYS = GOLDEN_ROOT.parent / "spec" / "live_avatar_dit_keys.json"


def small() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))


def test_served_presets_feed_the_text_encoder_into_the_dit() -> None:
    """A prompt's rows would not fit the DiT's text embedding."""
    for preset in PRESETS.values():
        assert preset.text.dim == preset.dit.text_dim, preset.name


def test_every_schedule_finds_its_modulation_vectors() -> None:
    """A deployment with other steps than 4 would not start."""
    known = set(known_timesteps().tolist())
    assert {0.0, *(t for n in range(1, MAX_STEPS + 1) for t in Schedule(n).timesteps)} <= known


def test_the_14b_network_has_the_released_number_of_parameters() -> None:
    """The released weights would not load."""
    with torch.device("meta"):
        state = DiT(PRESETS["14b"].dit).state_dict()
    assert len(state) == 1260
    assert sum(tensor.numel() for tensor in state.values()) == 16_295_755_609


@pytest.mark.skipif(not KEYS.is_file(), reason=f"no key list at {KEYS}; set GOLDEN_ROOT")
def test_the_14b_network_has_the_released_keys_and_shapes() -> None:
    """The released weights would not load, key by key."""
    with torch.device("meta"):
        state = DiT(PRESETS["14b"].dit).state_dict()
    wanted = json.loads(KEYS.read_text())["keys"]
    assert {key: list(tensor.shape) for key, tensor in state.items()} == wanted


def test_a_checkpoint_that_does_not_fit_names_every_key(tmp_path: Path) -> None:
    """Weights would be left random in silence, or one error would come per try."""
    path = tmp_path / "net.safetensors"
    save_file({"0.weight": torch.zeros(2, 4), "0.bias": torch.zeros(2), "x": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="does not fit the network") as error:
        load_checkpoint(small(), path)
    text = str(error.value)
    assert "2 missing: 1.bias, 1.weight" in text
    assert "1 unexpected: x" in text
    assert "1 mis-shaped: 0.weight [2, 4] (wanted [2, 3])" in text


def test_a_bfloat16_checkpoint_is_loaded_in_float32(tmp_path: Path) -> None:
    """Parity on a CPU needs float32 arithmetic on the released bfloat16 numbers."""
    saved = small().bfloat16()
    save_checkpoint(saved, tmp_path / "net.safetensors")
    loaded = load_checkpoint(small(), tmp_path / "net.safetensors")
    for key, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, saved.state_dict()[key].float())


def test_seeded_weights_depend_on_the_seed_alone() -> None:
    """Committed demo weights could not be made again; the caller's random stream would move."""
    torch.manual_seed(5)
    wanted_next = torch.rand(1)
    torch.manual_seed(5)
    one, two, other = (build_seeded(small, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), wanted_next)
    assert torch.equal(one["0.weight"], two["0.weight"])
    assert not torch.equal(one["0.weight"], other["0.weight"])


def test_unseen_cache_slots_change_nothing() -> None:
    """Whatever a slot held before would leak into a new stream's first blocks."""
    preset = PRESETS["demo"]
    config = preset.pipeline
    step = DiTStep(build_seeded(lambda: DiT(preset.dit), 0))
    generator = torch.Generator().manual_seed(0)
    feeds = {
        name: torch.zeros(shape, dtype=torch.int64)
        if dtype_of(name) == torch.int64
        else torch.randn(shape, generator=generator)
        for name, shape in step_inputs(config, num_blocks=1).items()
    }
    seen = config.num_sink_tokens + config.tokens_per_block
    feeds["write_index"][:] = config.num_sink_tokens
    with torch.inference_mode():
        before = step(**feeds)
        for name in feeds:
            if name.startswith("cache"):
                feeds[name][:, :, seen:] = 100.0
        after = step(**feeds)
    assert len(before) == len(step_outputs(config))
    assert torch.equal(before[0], after[0])
