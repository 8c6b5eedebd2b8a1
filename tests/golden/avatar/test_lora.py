"""LoRA merging against the release's, and what it refuses."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from export.checkpoint.files import SafetensorsWeights, open_weights, read_header
from export.checkpoint.lora import Lora, merge_lora, open_lora
from networks.lora import PREFIX
from tests.golden.fixtures import LIVE_AVATAR, manifest, max_abs, needs_golden, tensors

pytestmark = needs_golden

TOLERANCE = 1e-6
"""The fixtures' own: float32, one product of small matrices."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> SafetensorsWeights:
    """The DiT in float32, which the fixture was merged in."""
    path = tmp_path_factory.mktemp("base") / "dit.safetensors"
    save_file(tensors("dit_weights"), path)
    return open_weights(path.parent, "dit")


def opened(base: SafetensorsWeights, state: dict, folder: Path) -> Lora:
    save_file(state, folder / "lora.safetensors")
    settings = manifest()["lora"]
    return open_lora(
        folder / "lora.safetensors", base, rank=settings["rank"], alpha=settings["alpha"]
    )


def test_merged_weights_equal_the_release_s(base: SafetensorsWeights, tmp_path: Path) -> None:
    """Scale, side or selection of the update would be wrong; other tensors would change."""
    lora = opened(base, tensors("lora"), tmp_path)
    merge_lora(base, lora, tmp_path / "out")
    got, before = load_file(tmp_path / "out" / "dit.safetensors"), tensors("dit_weights")
    wanted = dict(tensors("lora_merged"))
    sums = wanted.pop("checksum_all_merged")
    for key, tensor in wanted.items():
        assert max_abs(got[key], tensor) <= TOLERANCE, key
    keys = manifest()["lora"]["merged_keys_sorted"]
    assert sorted(lora.plan.layers) == keys
    for key, (total, magnitude) in zip(keys, sums.tolist(), strict=True):
        count = got[key].numel()
        assert abs(got[key].double().sum().item() - total) <= TOLERANCE * count, key
        assert abs(got[key].double().abs().sum().item() - magnitude) <= TOLERANCE * count, key
    changed = {key for key in before if not torch.equal(got[key], before[key])}
    assert changed == set(keys)


@pytest.mark.parametrize("prefix", [PREFIX, ""])
@pytest.mark.parametrize("adapter", [".default", ""])
def test_every_spelling_of_the_keys_means_the_same(
    base: SafetensorsWeights, tmp_path: Path, prefix: str, adapter: str
) -> None:
    """A file saved by another version of the library would be refused or skipped."""
    state = {
        key.replace(PREFIX, prefix).replace(".default", adapter): tensor
        for key, tensor in tensors("lora").items()
    }
    plan = opened(base, state, tmp_path).plan
    assert sorted(plan.layers) == manifest()["lora"]["merged_keys_sorted"]
    assert not plan.full
    assert not plan.untouched


def test_whole_tensors_in_the_file_replace_the_base_s(
    base: SafetensorsWeights, tmp_path: Path
) -> None:
    """Fine-tuned tensors beside the updates would be lost."""
    key = manifest()["lora"]["merged_keys_sorted"][0]
    ones = {"head.head.bias": torch.ones(base.infos["head.head.bias"].shape)}
    wrapped = {key.replace(".weight", ".base_layer.weight"): torch.zeros(base.infos[key].shape)}
    lora = opened(base, tensors("lora") | ones | wrapped, tmp_path)
    assert set(lora.plan.full) == {"head.head.bias", key}
    merge_lora(base, lora, tmp_path / "out")
    got = load_file(tmp_path / "out" / "dit.safetensors")
    a, b = (tensors("lora")[name] for name in lora.plan.layers[key])
    assert torch.equal(got["head.head.bias"], ones["head.head.bias"])
    assert max_abs(got[key], lora.scale * b @ a) <= TOLERANCE


def test_what_does_not_fit_is_named(base: SafetensorsWeights, tmp_path: Path) -> None:
    """The release skips such tensors in silence."""
    state = dict(tensors("lora"))
    first, *_ = sorted(state)
    a, b = first, first.replace("lora_A", "lora_B")
    cases = {
        "the network has no blocks.99.ffn.0.weight": {
            "blocks.99.ffn.0.lora_A.weight": state[a],
        },
        f"{b}: is .*wanted": {b: state[b][:-1]},
        "means the same as": {a.removeprefix(PREFIX): state[a]},
        "head.head.bias: is": {"head.head.bias": torch.zeros(1)},
        "the network has no .*alpha": {a.replace("lora_A.default.weight", "alpha"): torch.ones(1)},
    }
    for message, change in cases.items():
        with pytest.raises(ValueError, match=message):
            opened(base, state | {k: t.clone() for k, t in change.items()}, tmp_path)
    del state[b]
    with pytest.raises(ValueError, match="its other half is missing"):
        opened(base, state, tmp_path)


def test_a_lora_of_another_rank_is_refused(base: SafetensorsWeights) -> None:
    """alpha / rank would be another scale than it was trained with."""
    path, rank = LIVE_AVATAR / "lora.safetensors", manifest()["lora"]["rank"]
    with pytest.raises(ValueError, match=f"at rank {2 * rank}"):
        open_lora(path, base, rank=2 * rank, alpha=1.0)


def test_a_lora_for_another_model_is_refused(tmp_path: Path) -> None:
    """Its updates would all be skipped."""
    save_file({"encoder.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    other = SafetensorsWeights(read_header(tmp_path / "other.safetensors"))
    settings = manifest()["lora"]
    with pytest.raises(ValueError, match=f"{len(tensors('lora'))} problems"):
        open_lora(LIVE_AVATAR / "lora.safetensors", other, rank=settings["rank"], alpha=1.0)
