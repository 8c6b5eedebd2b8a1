"""Released files to what an export takes: `python -m export.checkpoint.prepare DIR --out WEIGHTS`.

The out folder gets one set of safetensors per component: `dit` (the LoRA merged), `vae`,
`text_encoder`, `audio_encoder`, and the tokenizer. Element types stay as released.
"""

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from export.checkpoint.files import SafetensorsWeights, TensorInfo, Weights
from export.checkpoint.inspect import inspect_checkpoint
from export.checkpoint.lora import (
    RELEASED_ALPHA,
    RELEASED_RANK,
    Lora,
    as_stored,
    merged_chunks,
    open_lora,
    summary,
)
from export.checkpoint.released import COMPONENTS, TOKENIZER, Component
from export.checkpoint.writer import link_component, shards_of, write_component
from export.commands import Alpha, LoraFile, Rank, ReleaseFolder, failing_in_words, progress
from export.presets import AvatarName, preset_named
from networks.presets import Preset


def open_release(folder: Path, preset: Preset) -> dict[str, Weights]:
    """Every component's tensors, none read; ValueError names all that does not fit `preset`."""
    findings = inspect_checkpoint(folder, preset)
    if problems := [line for finding in findings for line in finding.problems]:
        raise ValueError(f"{folder}: {len(problems)} problems\n" + "\n".join(problems))
    return {finding.name: finding.weights for finding in findings if finding.weights is not None}


def used_keys(part: Component, weights: Weights, preset: Preset) -> dict[str, TensorInfo]:
    """The tensors that the component's network at `preset`'s depth has; others are not used."""
    wanted = part.build(preset).state_dict()
    return {key: weights.infos[key] for key in sorted(weights.infos) if part.rename(key) in wanted}


def prepare(
    release: dict[str, Weights],
    preset: Preset,
    out: Path,
    merge: Lora | None,
    components: Sequence[str] | None = None,
) -> dict[str, list[Path]]:
    """Write `components` (None: all) under the release's keys; their files by component.

    Tensors that no network of `preset` has are left out; it may have fewer layers than the weights.
    `merge` goes into the DiT. Shards of safetensors are linked, or copied where the file system has
    no hard links.
    """
    out.mkdir(parents=True, exist_ok=True)
    parts = [part for part in COMPONENTS if components is None or part.name in components]
    used = {part.name: used_keys(part, release[part.name], preset) for part in parts}
    with progress("preparing", sum(map(len, used.values()))) as advance:
        return {
            name: _write(name, release[name], keys, out, merge, advance)
            for name, keys in used.items()
        }


def _write(
    name: str,
    weights: Weights,
    used: dict[str, TensorInfo],
    out: Path,
    merge: Lora | None,
    on_tensor: Callable[[str], None],
) -> list[Path]:
    stored = isinstance(weights, SafetensorsWeights) and len(used) == len(weights.infos)
    shards = as_stored(weights) if stored else shards_of(used)  # type: ignore[arg-type]
    if merge is not None and name == "dit":
        chunks = partial(merged_chunks, weights, merge)
        return write_component(out, name, shards, chunks, on_tensor)
    if stored:
        return link_component(out, name, shards, weights.files)
    return write_component(out, name, shards, weights.chunks, on_tensor)


@failing_in_words()
def main(
    folder: ReleaseFolder,
    out: Annotated[Path, typer.Option(help="folder to be written")],
    lora: LoraFile = None,
    preset: AvatarName = "14b",
    rank: Rank = RELEASED_RANK,
    alpha: Alpha = RELEASED_ALPHA,
) -> None:
    """Turn the released files into one set of safetensors per component."""
    if out.resolve() == folder.resolve():
        raise ValueError(f"{out} is the released folder itself; choose another one")
    chosen = preset_named(preset)
    release = open_release(folder, chosen)
    merge = None if lora is None else open_lora(lora, release["dit"], rank=rank, alpha=alpha)
    written = prepare(release, chosen, out, merge)
    for part in COMPONENTS:
        files = written[part.name]
        size = sum(path.stat().st_size for path in files)
        typer.echo(f"{part.name}: {len(files)} files, {size / 1e9:.2f} GB")
        if unused := part.unused(release[part.name]):
            typer.echo(f"{part.name}: left out, not used here: {', '.join(unused)}")
    if merge is not None:
        typer.echo(f"LoRA: {summary(merge)}")
    if chosen.pipeline.tokenizer != "bytes":
        shutil.copyfile(folder / TOKENIZER, out / chosen.pipeline.tokenizer)


if __name__ == "__main__":
    typer.run(main)
