"""The released sizes through the exporter: 16 billion parameters, of which no number is read."""

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch

from export.checkpoint.files import TensorInfo, open_weights
from export.checkpoint.writer import shard_names, shards_of, write_index, write_zeros
from networks.dit import DiT
from networks.presets import PRESETS

MOST_MEMORY = 1_000_000_000
"""Bytes; half of it is PyTorch."""
LARGEST_GRAPH = 4_000_000
"""Bytes of a graph file: names, shapes, offsets and no weight."""
EXPORT = """
import re, sys, time
from pathlib import Path
from export.graphs.exporter import export_preset
from networks.presets import PRESETS
folder, began = Path(sys.argv[1]), time.monotonic()
export_preset(
    PRESETS["14b"],
    folder,
    folder,
    lambda name: print(
        name, f"CPU {time.process_time():.0f} s, wall {time.monotonic() - began:.0f} s"
    ),
    dtype="bf16",
    components=["dit"],
)
# Not ru_maxrss: a child begins with its parent's, and pytest may be large.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released DiT's tensors in four shards."""
    folder = tmp_path_factory.mktemp("14b")
    with torch.device("meta"):
        state = DiT(PRESETS["14b"].dit).state_dict()
    shards = shards_of(
        {k: TensorInfo(dtype=torch.bfloat16, shape=tuple(t.shape)) for k, t in state.items()}
    )
    names = shard_names("dit", len(shards))
    for name, shard in zip(names, shards, strict=True):
        write_zeros(folder / name, shard)
    write_index(folder, "dit", dict(zip(names, shards, strict=True)))
    return folder


@pytest.mark.slow
def test_the_released_dit_is_exported_without_loading_it(folder: Path) -> None:
    """An export would need a machine with 65 GB of memory, or copy 33 GB into the graphs."""
    before = {path.name: path.stat().st_ino for path in folder.glob("*.safetensors")}
    command = [sys.executable, "-c", EXPORT, str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    print(run.stdout)
    assert int(run.stdout.splitlines()[-1]) <= MOST_MEMORY
    assert {name: (folder / name).stat().st_ino for name in before} == before
    infos = open_weights(folder, "dit").infos
    depth = PRESETS["14b"].dit.num_layers
    fewest = {"dit_step": 20 * depth, "dit_text": 5 * depth, "dit_embed": 4, "dit_sink": 8}
    for name, least in {**fewest, "audio_tokens": 10}.items():
        path = folder / f"{name}.onnx"
        assert path.stat().st_size <= LARGEST_GRAPH
        onnx.checker.check_model(path)
        model = onnx.load(path, load_external_data=False)
        outside = [t for t in model.graph.initializer if t.data_location == t.EXTERNAL]
        for tensor in outside:
            place = {entry.key: entry.value for entry in tensor.external_data}
            info = infos[tensor.name]
            assert tuple(tensor.dims) == info.shape
            assert (place["location"], int(place["offset"]), int(place["length"])) == (
                info.path.name,
                info.offset,
                info.num_bytes,
            )
        assert len(outside) >= least
        print(name, path.stat().st_size, "bytes,", len(outside), "weights outside")
