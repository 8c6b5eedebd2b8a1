"""Drives the exported graphs in ONNX Runtime with the caches written in place."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from networks.graph_inputs import dtype_of, step_outputs, text_outputs
from pipeline.config.avatar import PipelineConfig
from tests.golden.avatar.dit_stream import Array, Arrays


def open_session(path: Path, threads: int = 1) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


Graphs = dict[str, ort.InferenceSession]
"""audio_tokens, dit_text, dit_sink, dit_embed and dit_step by name."""


def open_graphs(folder: Path) -> Graphs:
    names = ("audio_tokens", "dit_text", "dit_sink", "dit_embed", "dit_step")
    return {name: open_session(folder / f"{name}.onnx") for name in names}


class OnnxDriver:
    """One stage's caches as OrtValues that are input and output at once."""

    def __init__(self, graphs: Graphs, config: PipelineConfig) -> None:
        self._graphs, self._config = graphs, config
        shape = (1, config.num_heads, config.cache_len, config.head_dim)
        names = [f"cache_{kv}_{i}" for i in range(config.num_layers) for kv in "kv"]
        self._caches = {name: _ortvalue(np.zeros(shape, np.float32)) for name in names}
        self._texts: dict[str, ort.OrtValue] = {}

    def caches(self) -> Arrays:
        return {name: value.numpy() for name, value in self._caches.items()}

    def text(self, text: NDArray[np.float32]) -> None:
        self._texts = self._run("dit_text", {"text": text}, text_outputs(self._config))

    def audio_tokens(self, audio_features: NDArray[np.float32]) -> Arrays:
        names = ["audio_local", "audio_global"]
        outputs = self._graphs["audio_tokens"].run(names, {"audio_features": audio_features})
        return dict(zip(names, outputs, strict=True))

    def sink(self, reference: NDArray[np.float32], motion: NDArray[np.float32]) -> Array:
        outputs = self._run("dit_sink", {"reference": reference, "motion": motion}, ["tokens"])
        return outputs["tokens"].numpy()

    def embed(self, latent: NDArray[np.float32], pose: NDArray[np.float32]) -> Array:
        return self._run("dit_embed", {"latent": latent, "pose": pose}, ["tokens"])[
            "tokens"
        ].numpy()

    def trunk(self, tokens: Array, feeds: Arrays) -> NDArray[np.float32]:
        outputs = self._run("dit_step", {"tokens": tokens, **feeds}, step_outputs(self._config))
        return outputs["velocity"].numpy()

    def _run(self, graph: str, feeds: Arrays, names: list[str]) -> dict[str, ort.OrtValue]:
        session = self._graphs[graph]
        binding = session.io_binding()
        for name, feed in feeds.items():
            if name != "tokens":  # in the type that another graph gave them
                feed = feed.astype(np.float32 if dtype_of(name).is_floating_point else np.int64)
            binding.bind_ortvalue_input(name, _ortvalue(feed))
        wanted = {value.name for value in session.get_inputs()}
        for name, value in (self._caches | self._texts).items():
            if name in wanted:
                binding.bind_ortvalue_input(name, value)
        for name in names:
            if name.startswith("present"):
                binding.bind_ortvalue_output(name, self._caches[name.replace("present", "cache")])
            else:
                binding.bind_output(name)
        session.run_with_iobinding(binding)
        return dict(zip(names, binding.get_outputs(), strict=True))


def _ortvalue(array: NDArray) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
