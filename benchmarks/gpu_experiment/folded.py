"""One of two processes that share a GPU: `python -m benchmarks.gpu_experiment.folded step|vae`.

Once it is warm it prints the bytes that are used on the GPU. It answers each line of its input, a
number of seconds, with a line: how many milliseconds each run of that time took.
"""

import json
import sys
import time
from collections.abc import Callable

import torch

from benchmarks.gpu_experiment import trunk, vae
from benchmarks.gpu_experiment.device import CUDA, GPU

NUM_LAYERS = 10


def main(name: str, *options: str) -> None:
    is_miniature = "--miniature" in options
    work = _work(name, is_miniature)
    for _ in range(2):
        work()
    print(json.dumps(None if is_miniature else _memory()), flush=True)
    for line in sys.stdin:
        until, found = time.perf_counter() + float(line), []
        while (began := time.perf_counter()) < until:
            work()
            found.append(round(1e3 * (time.perf_counter() - began), 3))
        print(json.dumps(found), flush=True)


def _work(name: str, is_miniature: bool) -> Callable[[], object]:
    """What is repeated; each call returns when it is done."""
    device = "cpu" if is_miniature else GPU
    if is_miniature:
        torch.set_num_threads(1)
    if name == "vae":
        run: Callable[[], object] = vae.Passes(vae.preset_of(is_miniature), device).decode
    else:
        run = trunk.Trunk(trunk.preset_of(is_miniature, NUM_LAYERS), device).run
    if is_miniature:
        return run

    def waiting() -> None:
        run()
        CUDA.synchronize()

    return waiting


def _memory() -> dict[str, int]:
    """Bytes that all processes use on the GPU, and those that torch holds here."""
    free, total = CUDA.mem_get_info()
    return {"used": total - free, "held": CUDA.memory_reserved()}


if __name__ == "__main__":
    main(*sys.argv[1:])
