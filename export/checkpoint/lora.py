"""Merge a LoRA into the DiT: `python -m export.checkpoint.lora DIR --lora FILE --out DIR`.

Tensor by tensor, in memory of a few chunks. Whatever a LoRA file holds is used or is an error.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from torch import Tensor

from export.checkpoint.files import SafetensorsWeights, Weights, open_weights, read, read_header
from export.checkpoint.writer import Shard, write_component
from export.commands import Alpha, Rank, failing_in_words, progress
from networks.lora import LoraPlan, merged, plan_lora

RELEASED_RANK, RELEASED_ALPHA = 128, 64.0
"""Of `liveavatar.safetensors`; the file itself does not hold alpha (docs/method.md section 7)."""
STEMS = ("dit", "diffusion_pytorch_model")
"""How a DiT's files begin: as prepared here, as released."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """A LoRA file matched with a network."""

    weights: Weights
    plan: LoraPlan
    scale: float  # alpha / rank


def open_lora(path: Path, base: Weights, *, rank: int, alpha: float) -> Lora:
    """ValueError names every tensor of the file that does not fit `base` or `rank`."""
    if not path.is_file():
        raise ValueError(f"{path}: there is no such LoRA file")
    if rank < 1:
        raise ValueError(f"the LoRA's rank is given as {rank}, wanted 1 or more")
    weights = SafetensorsWeights(read_header(path))
    shapes = [{k: info.shape for k, info in w.infos.items()} for w in (weights, base)]
    try:
        plan = plan_lora(shapes[0], shapes[1], rank)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return Lora(weights=weights, plan=plan, scale=alpha / rank)


def merged_chunks(base: Weights, lora: Lora, key: str) -> Iterator[Tensor]:
    """The rows of one tensor of the merged network, in the base's element type."""
    plan, dtype = lora.plan, base.infos[key].dtype
    source = (lora.weights, plan.full[key]) if key in plan.full else (base, key)
    pieces = (chunk.to(dtype) for chunk in source[0].chunks(source[1]))
    if key not in plan.layers:
        yield from pieces
        return
    a, b = (read(lora.weights, name) for name in plan.layers[key])
    start = 0
    for rows in pieces:
        yield merged(rows, a, b[start : start + len(rows)], lora.scale)
        start += len(rows)


def merge_lora(
    base: SafetensorsWeights,
    lora: Lora,
    out: Path,
    stem: str = "dit",
    on_tensor: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Write the merged network into `out`, parted into shards as `base` is; returns the files."""
    chunks = partial(merged_chunks, base, lora)
    return write_component(out, stem, as_stored(base), chunks, on_tensor)


def as_stored(base: SafetensorsWeights) -> list[Shard]:
    """Which tensors lie in which file, file by file."""
    return [
        {key: info for key, info in base.infos.items() if info.path == path} for path in base.files
    ]


def open_dit(folder: Path) -> SafetensorsWeights:
    """The DiT of a released or a prepared folder."""
    for stem in STEMS:
        if any(folder.glob(f"{stem}*.safetensors*")):
            return open_weights(folder, stem)
    raise ValueError(
        f"{folder}: no DiT, neither {' nor '.join(f'{s}*.safetensors' for s in STEMS)}"
    )


def summary(lora: Lora) -> str:
    """What a merge does, in a line, and every tensor that is not an ordinary update."""
    plan = lora.plan
    total = len(plan.layers) + len(plan.untouched)
    lines = [f"{len(plan.layers)} of {total} layers, scale {lora.scale:g}"]
    if plan.full:
        lines.append(f"replaced as a whole ({len(plan.full)}): {', '.join(sorted(plan.full))}")
    if plan.untouched:
        lines.append(f"left as they are ({len(plan.untouched)}): {', '.join(plan.untouched)}")
    return "\n".join(lines)


@failing_in_words()
def main(
    folder: Annotated[Path, typer.Argument(help="folder of the DiT's safetensors")],
    lora: Annotated[Path, typer.Option(help="LoRA file")],
    out: Annotated[Path, typer.Option(help="folder for the merged dit*.safetensors")],
    rank: Rank = RELEASED_RANK,
    alpha: Alpha = RELEASED_ALPHA,
) -> None:
    """Merge a LoRA into the DiT's weights."""
    base = open_dit(folder)
    opened = open_lora(lora, base, rank=rank, alpha=alpha)
    typer.echo(summary(opened))
    with progress("merging", len(base.infos)) as advance:
        files = merge_lora(base, opened, out, on_tensor=advance)
    size = sum(path.stat().st_size for path in files)
    typer.echo(f"{out}: {len(files)} files, {size / 1e9:.2f} GB")


if __name__ == "__main__":
    typer.run(main)
