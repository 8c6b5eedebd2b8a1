"""Weights to a folder of ONNX graphs: `python -m export.to_onnx --preset demo --weights A --out B`.

The out folder then holds all that a model repository is assembled from: the graphs, the safetensors
they point into, tables of timesteps, `pipeline.json` or `rolling.json`, and `hashes.json`. Weights
whose element type already fits are not copied where A is B.
"""

from pathlib import Path
from typing import Annotated

import typer

from export.commands import Size, check_choices, failing_in_words, say_exported
from export.graphs.exporter import components_of, export_preset
from export.graphs.precision import PRECISIONS
from export.presets import AnyName, any_preset
from pipeline.denoising.schedule import MAX_STEPS

STEPS = f"denoising steps, 1 to {MAX_STEPS}; the preset's if not given"


@failing_in_words()
def main(
    preset: AnyName,
    weights: Annotated[Path, typer.Option(help="folder with the components' safetensors")],
    out: Annotated[Path, typer.Option(help="folder to be written; may be that of the weights")],
    dtype: Annotated[
        str,
        typer.Option(
            help=f"element type: {', '.join(PRECISIONS)}; fp8 is that of the DiT's linear layers"
        ),
    ] = "fp32",
    component: Annotated[
        list[str] | None, typer.Option(help="such as dit or vae; all if not given")
    ] = None,
    size: Size = None,
    num_steps: Annotated[int | None, typer.Option(help=STEPS)] = None,
) -> None:
    """Export the graphs of a preset."""
    chosen = any_preset(preset, size, num_steps)
    check_choices("dtype", [dtype], PRECISIONS)
    check_choices("component", component or (), components_of(chosen))
    export_preset(chosen, weights, out, say_exported, dtype=dtype, components=component)
    num_bytes = sum(path.stat().st_size for path in out.iterdir() if path.is_file())
    typer.echo(f"{out}: {len(list(out.glob('*.onnx')))} graphs, {num_bytes / 1e6:.1f} MB")


if __name__ == "__main__":
    typer.run(main)
