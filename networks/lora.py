"""Low-rank updates of linear layers: W + scale * B A (arXiv 2106.09685; docs/method.md section 7).

r rank   out, in sizes of the layer: W [out, in], A [r, in], B [out, r]
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

Shape = tuple[int, ...]
PREFIX = "base_model.model."
_PART = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")
_WRAPPED = re.compile(r"\.(?:base_layer|modules_to_save\.default)\.")
_TARGET = re.compile(r"\.(?:q|k|v|o|ffn\.0|ffn\.2)\.weight$")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraPlan:
    """Which tensors of a LoRA file change which weight of the network."""

    layers: Mapping[str, tuple[str, str]]  # key of the network's weight -> keys of A and B
    full: Mapping[str, str]
    """Key of the network's tensor -> key of the tensor that replaces it (before A and B)."""
    untouched: tuple[str, ...]  # weights that a LoRA of this kind may change and this one does not


def lora_targets(keys: Iterable[str]) -> list[str]:
    """Weights of the layers q, k, v, o, ffn.0 and ffn.2, wherever they stand in the network."""
    return [key for key in keys if _TARGET.search(key)]


def network_key(key: str) -> tuple[str, str]:
    """A LoRA key's weight in the network, and `A`, `B`, or `full` for a tensor that replaces it;
    keys come with and without `base_model.model.` and `.default`."""
    key = key.removeprefix(PREFIX)
    if part := _PART.fullmatch(key):
        return f"{part['module']}.weight", part["side"]
    return _WRAPPED.sub(".", key), "full"


def plan_lora(lora: Mapping[str, Shape], network: Mapping[str, Shape], rank: int) -> LoraPlan:
    """Match every tensor of a LoRA file, given the shapes on both sides. ValueError names every
    tensor without partner or target, of another shape than its target's, or of another rank than
    `rank`."""
    found: dict[tuple[str, str], str] = {}
    problems: list[str] = []
    for key in sorted(lora):
        place = network_key(key)
        if place[0] not in network:
            problems.append(f"{key}: the network has no {place[0]}")
        elif place in found:
            problems.append(f"{key}: means the same as {found[place]}")
        else:
            found[place] = key
    layers: dict[str, tuple[str, str]] = {}
    for target in sorted({target for target, side in found if side != "full"}):
        a, b = (found.get((target, side)) for side in "AB")
        if a is None or b is None:
            problems.append(f"{a or b}: its other half is missing")
            continue
        layers[target] = a, b
        problems += _misfits(a, b, lora, network[target], rank)
    full = {target: key for (target, side), key in found.items() if side == "full"}
    for target, key in full.items():
        if lora[key] != network[target]:
            problems.append(f"{key}: is {list(lora[key])}, wanted {list(network[target])}")
    if problems:
        raise ValueError(f"LoRA does not fit, {len(problems)} problems: " + "; ".join(problems))
    untouched = tuple(key for key in lora_targets(network) if key not in layers)
    return LoraPlan(layers=layers, full=full, untouched=untouched)


def _misfits(a: str, b: str, lora: Mapping[str, Shape], weight: Shape, rank: int) -> list[str]:
    if len(weight) != 2:
        return [f"{a}: updates a weight {list(weight)} that is no matrix"]
    wanted = {a: (rank, weight[1]), b: (weight[0], rank)}
    return [
        f"{key}: is {list(lora[key])}, wanted {list(shape)} at rank {rank}"
        for key, shape in wanted.items()
        if lora[key] != shape
    ]


def merged(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Rows [n, in] of a weight, updated; A [r, in], the same rows of B [n, r]. Computed in float32
    and rounded once, to the weight's own element type."""
    return (weight.float() + scale * (b.float() @ a.float())).to(weight.dtype)
