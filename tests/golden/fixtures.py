"""The reference fixtures: where they lie, what they hold, the preset they belong to.

Every size comes from the manifest, so that another set of the same layout passes the same tests.
Whatever asks for data that isn't there skips its test with the reason.
"""

import functools
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from networks.presets import Preset
from tests.golden.presets import golden_preset

if TYPE_CHECKING:
    from torch import Tensor

GOLDEN_ROOT = Path(
    os.environ.get("GOLDEN_ROOT", Path(__file__).parents[3] / "shared" / "golden")
).resolve()
LIVE_AVATAR = GOLDEN_ROOT / "live_avatar"
COMPONENTS = {"dit": "dit", "vae": "vae", "audio_encoder": "audio", "text_encoder": "t5"}
"""Component -> prefix of the fixture file with its weights."""

_ABSENT = f"no fixtures at {LIVE_AVATAR}; set GOLDEN_ROOT"
needs_golden = pytest.mark.skipif(not (LIVE_AVATAR / "manifest.json").is_file(), reason=_ABSENT)


@functools.cache
def manifest() -> dict[str, Any]:
    return json.loads(_file("manifest.json").read_text())


@functools.cache
def preset() -> Preset:
    return golden_preset(manifest())


@functools.cache
def tensors(name: str) -> "dict[str, Tensor]":
    """Tensors of `<name>.safetensors`, bfloat16 upcast to float32."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    loaded = load_file(_file(f"{name}.safetensors"))
    return {k: t.float() if t.dtype == torch.bfloat16 else t for k, t in loaded.items()}


def load(name: str) -> dict[str, NDArray[Any]]:
    """The same as arrays."""
    return {key: tensor.numpy() for key, tensor in tensors(name).items()}


def weights(component: str) -> Path:
    """Fixture file of a component's weights, in bfloat16."""
    return _file(f"{COMPONENTS[component]}_weights.safetensors")


def write_weights(folder: Path) -> None:
    """The weights as export takes them: `<component>.safetensors` in float32."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for component, prefix in COMPONENTS.items():
        state = tensors(f"{prefix}_weights")
        save_file({key: state[key] for key in sorted(state)}, folder / f"{component}.safetensors")


def numbered(keys: Iterable[str], pattern: str) -> dict[int, str]:
    """The keys that match, in the order of the number that `pattern` takes out of each."""
    found = [(int(match[1]), key) for key in keys if (match := re.fullmatch(pattern, key))]
    return dict(sorted(found))


def keys_like(keys: Iterable[str], pattern: str) -> dict[str, tuple[int, ...]]:
    """Every key that matches, with the numbers in it; skips where a set has none."""
    found = [key for key in keys if re.fullmatch(pattern, key)]
    if not found:
        pytest.skip(f"the fixtures hold no {pattern}")
    return {key: tuple(int(number) for number in re.findall(r"\d+", key)) for key in found}


def max_abs(got: Any, wanted: Any) -> float:
    """Largest absolute difference; shapes must be equal."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    assert got.shape == wanted.shape, f"shape {got.shape}, wanted {wanted.shape}"
    return float(np.abs(got.astype(np.float64) - wanted.astype(np.float64)).max())


def _file(name: str) -> Path:
    path = LIVE_AVATAR / name
    if not path.is_file():
        pytest.skip(_ABSENT)
    return path
