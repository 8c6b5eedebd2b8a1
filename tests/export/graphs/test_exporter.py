"""What an export leaves in its folder, and what it never replaces."""

import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")

from safetensors.torch import load_file

from export.graphs.exporter import export_preset
from export.presets import AnyPreset
from networks.presets import PRESETS
from networks.rolling_presets import ROLLING_PRESETS
from tests.support.plans import DEMO, ROLLING_DEMO
from tests.support.tiny_release import write_sharded

DEMOS = [
    (PRESETS["demo"], DEMO, "audio_encoder"),
    (ROLLING_PRESETS["rolling-demo"], ROLLING_DEMO, "vae"),
]


def test_weights_are_not_replaced_by_rounded_ones(tmp_path: Path) -> None:
    """`--out` equal to `--weights` would destroy what cannot be had back."""
    shutil.copy(ROLLING_DEMO / "wan.safetensors", tmp_path)
    before = (tmp_path / "wan.safetensors").read_bytes()
    with pytest.raises(ValueError, match="wan is not in bf16; export elsewhere"):
        export_preset(
            ROLLING_PRESETS["rolling-demo"], tmp_path, tmp_path, dtype="bf16", components=["wan"]
        )
    assert [path.name for path in tmp_path.iterdir()] == ["wan.safetensors"]
    assert (tmp_path / "wan.safetensors").read_bytes() == before


@pytest.mark.parametrize(("preset", "weights", "stem"), DEMOS, ids=["demo", "rolling-demo"])
def test_shards_of_an_earlier_export_are_removed(
    preset: AnyPreset, weights: Path, stem: str, tmp_path: Path
) -> None:
    """Both would be listed, and whoever opens the component finds two versions of it."""
    write_sharded(tmp_path, stem, load_file(weights / f"{stem}.safetensors"))
    assert len(list(tmp_path.glob(f"{stem}-*"))) > 1
    export_preset(preset, weights, tmp_path, components=[stem])
    assert [path.name for path in tmp_path.glob(f"{stem}*.safetensors*")] == [f"{stem}.safetensors"]
