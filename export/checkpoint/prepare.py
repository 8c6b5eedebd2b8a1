"""Released files to what an export takes: `python -m export.checkpoint.prepare DIR --out WEIGHTS`.

The out folder gets one set of safetensors per component: `dit` (the LoRA merged), `vae`,
`text_encoder`, `audio_encoder`, and the tokenizer. Element types stay as released.
"""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from export.checkpoint.files import SafetensorsWeights, TensorInfo, Weights
from export.checkpoint.lora import (
    RELEASED_ALPHA,
    RELEASED_RANK,
    Lora,
    as_stored,
    merged_chunks,
    open_lora,
    summary,
)
from export.checkpoint.released import (
    COMPONENTS,
    TOKENIZER,
    Component,
    check_config,
    missing_tokenizer,
)
from export.checkpoint.writer import link_component, shards_of, write_component
from export.commands import Alpha, LoraFile, Rank, ReleaseFolder, failing_in_words, progress
from export.presets import AvatarName, preset_named
from networks.presets import Preset

OnTensor = Callable[[str], None]


def open_release(folder: Path, preset: Preset) -> dict[str, Weights]:
    """Every component's tensors, none read; ValueError names all that does not fit `preset`."""
    opened = {part.name: part.fitting(folder, preset) for part in COMPONENTS}
    problems = [line for _, lines in opened.values() for line in lines]
    problems += check_config(folder, preset) + missing_tokenizer(folder, preset)
    if problems:
        raise ValueError(f"{folder}: {len(problems)} problems\n" + "\n".join(problems))
    return {name: weights for name, (weights, _) in opened.items() if weights is not None}


def used_keys(part: Component, weights: Weights, preset: Preset) -> dict[str, TensorInfo]:
    """The tensors that the component's network at `preset`'s depth has; others are not used."""
    wanted = part.build(preset).state_dict()
    return {key: weights.infos[key] for key in sorted(weights.infos) if part.rename(key) in wanted}


def prepare_component(
    part: Component,
    weights: Weights,
    preset: Preset,
    out: Path,
    merge: Lora | None = None,
    on_tensor: OnTensor = lambda _: None,
) -> list[Path]:
    """Write a component under the release's keys, without tensors that its network does not have;
    the DiT with `merge` in it. `preset` may have fewer layers than the weights.

    Shards of safetensors are linked, or copied where the file system has no hard links.
    """
    used = used_keys(part, weights, preset)
    stored = isinstance(weights, SafetensorsWeights) and len(used) == len(weights.infos)
    shards = as_stored(weights) if stored else shards_of(used)  # type: ignore[arg-type]
    if merge is not None and part.name == "dit":
        chunks = partial(merged_chunks, weights, merge)
        return write_component(out, part.name, shards, chunks, on_tensor)
    if stored:
        return link_component(out, part.name, shards, weights.files)
    return write_component(out, part.name, shards, weights.chunks, on_tensor)


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
    out.mkdir(parents=True, exist_ok=True)
    with progress("preparing", sum(len(w.infos) for w in release.values())) as advance:
        for part in COMPONENTS:
            weights = release[part.name]
            files = prepare_component(part, weights, chosen, out, merge, advance)
            size = sum(path.stat().st_size for path in files)
            typer.echo(f"{part.name}: {len(files)} files, {size / 1e9:.2f} GB")
            if unused := part.unused(weights):
                typer.echo(f"{part.name}: left out, not used here: {', '.join(unused)}")
    if merge is not None:
        typer.echo(f"LoRA: {summary(merge)}")
    if chosen.pipeline.tokenizer != "bytes":
        shutil.copyfile(folder / TOKENIZER, out / chosen.pipeline.tokenizer)


if __name__ == "__main__":
    typer.run(main)
