"""One stage of one stream as the fixtures call it, whichever driver computes it."""

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from networks.checkpoint import load_checkpoint
from networks.dit import DiT, DiTEmbed, DiTSink, DiTStep
from networks.graph_inputs import dtype_of, step_outputs, text_outputs
from networks.transformer import TextKeysValues
from pipeline.avatar.rope_tables import RopeTables
from pipeline.avatar.stage import unpatchified
from tests.golden.fixtures import preset, weights

Array = NDArray[Any]
Arrays = dict[str, Array]


class Driver(Protocol):
    """Computes the graphs on caches it holds under the names cache_k_i, cache_v_i."""

    def caches(self) -> Arrays: ...

    def text(self, text: NDArray[np.float32]) -> None: ...

    def audio_tokens(self, audio_features: NDArray[np.float32]) -> Arrays: ...

    def sink(self, reference: NDArray[np.float32], motion: NDArray[np.float32]) -> Array: ...

    def embed(self, latent: NDArray[np.float32], pose: NDArray[np.float32]) -> Array: ...

    def trunk(self, tokens: Array, feeds: Arrays) -> NDArray[np.float32]: ...


class TorchDriver:
    """Eager PyTorch with a functional cache write."""

    def __init__(self, dit: DiT) -> None:
        self.text_module, self.audio_module = TextKeysValues(dit), dit.casual_audio_encoder
        self.sink_module, self.embed_module, self.trunk_module = (
            use(dit) for use in (DiTSink, DiTEmbed, DiTStep)
        )
        config = preset().pipeline
        shape = (1, config.num_heads, config.cache_len, config.head_dim)
        names = [f"cache_{kv}_{i}" for i in range(config.num_layers) for kv in "kv"]
        self._caches = {name: torch.zeros(shape) for name in names}
        self._texts: dict[str, torch.Tensor] = {}

    def caches(self) -> Arrays:
        return {name: tensor.numpy() for name, tensor in self._caches.items()}

    @torch.inference_mode()
    def text(self, text: NDArray[np.float32]) -> None:
        values = self.text_module(torch.from_numpy(text))
        self._texts = dict(zip(text_outputs(preset().pipeline), values, strict=True))

    @torch.inference_mode()
    def audio_tokens(self, audio_features: NDArray[np.float32]) -> Arrays:
        local, overall = self.audio_module(torch.from_numpy(audio_features))
        return {"audio_local": local.numpy(), "audio_global": overall.numpy()}

    @torch.inference_mode()
    def sink(self, reference: NDArray[np.float32], motion: NDArray[np.float32]) -> Array:
        return self.sink_module(torch.from_numpy(reference), torch.from_numpy(motion)).numpy()

    @torch.inference_mode()
    def embed(self, latent: NDArray[np.float32], pose: NDArray[np.float32]) -> Array:
        return self.embed_module(torch.from_numpy(latent), torch.from_numpy(pose)).numpy()

    @torch.inference_mode()
    def trunk(self, tokens: Array, feeds: Arrays) -> NDArray[np.float32]:
        given = _to_torch({"tokens": tokens, **feeds})
        values = self.trunk_module(**given, **self._caches, **self._texts)
        outputs = dict(zip(step_outputs(preset().pipeline), values, strict=True))
        self._keep(outputs)
        return outputs["velocity"].numpy()

    def _keep(self, outputs: dict[str, torch.Tensor]) -> None:
        self._caches = {name: outputs[name.replace("cache", "present")] for name in self._caches}


def _to_torch(feeds: Arrays) -> dict[str, torch.Tensor]:
    return {k: torch.from_numpy(np.ascontiguousarray(v)).to(dtype_of(k)) for k, v in feeds.items()}


def load_dit() -> DiT:
    return load_checkpoint(DiT(preset().dit), weights("dit"))


class DiTStream:
    """One stage of one stream: a driver, the tables, and the plan of slots."""

    def __init__(self, driver: Driver, dit: DiT) -> None:
        self.config, self.driver, self.dit = preset().pipeline, driver, dit
        self.tables = RopeTables(self.config)

    def prompt(self, context: Any) -> None:
        """context [rows, text_dim]."""
        text = np.zeros((1, self.config.text_len, self.config.text_dim), np.float32)
        text[0, : len(context)] = context
        self.driver.text(text)

    def prefill(self, reference: Any, motion: Any) -> None:
        """reference [1, C, 1, h, w], motion [1, C, 19, h, w]; the prompt came before."""
        config, (cos, sin) = self.config, self.tables.sink_tables()
        modulation, head_modulation = self._modulations(0.0)
        width = config.num_heads * config.head_dim
        feeds = {
            "audio_local": np.zeros((1, 1, config.num_audio_tokens + 1, width)),
            "audio_global": np.zeros((1, 1, width)),
            "actor_mask": np.zeros((1, 1, config.num_sink_tokens, 1)),
            "modulation": modulation,
            "head_modulation": head_modulation,
            **{"cos_q": cos, "sin_q": sin, "cos_k": cos, "sin_k": sin},
            "write_index": np.zeros(1, np.int64),
        }
        tokens = self.driver.sink(np.asarray(reference), np.asarray(motion))
        self.driver.trunk(tokens, feeds)

    def velocity(
        self,
        block: int,
        timestep: float,
        sink_distance: int,
        latent: Any,
        audio: Any,
        *,
        pose: Any = None,
        mask: Any = None,
    ) -> NDArray[np.float32]:
        """latent [C, F, h, w], audio [A, L, C, 12] -> velocity [C, F, h, w]."""
        config, tables = self.config, self.tables
        slot, frame = block % config.window_blocks, block * config.frames_per_block
        tables.write_block(slot, frame)
        tables.place_reference(reference_position(frame, sink_distance))
        cos_q, sin_q = tables.block_tables(frame)
        modulation, head_modulation = self._modulations(timestep)
        latent = np.asarray(latent)[None]
        seen = min(block + 1, config.window_blocks) * config.tokens_per_block
        keys = config.num_sink_tokens + seen
        own = config.frames_per_block, config.tokens_per_frame
        everywhere = np.ones((1, *own, 1))
        feeds = {
            **self.driver.audio_tokens(np.ascontiguousarray(audio, np.float32)),
            "actor_mask": everywhere if mask is None else np.array(mask).reshape(-1, *own, 1),
            "modulation": modulation,
            "head_modulation": head_modulation,
            "cos_q": cos_q,
            "sin_q": sin_q,
            "cos_k": tables.cos_k[:, :keys],
            "sin_k": tables.sin_k[:, :keys],
            "write_index": np.array([config.num_sink_tokens + slot * config.tokens_per_block]),
        }
        pose = np.zeros_like(latent) if pose is None else np.array(pose)
        velocity = self.driver.trunk(self.driver.embed(latent, pose), feeds)
        return unpatchified(velocity, config)[0]

    def ring(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The ring as the fixtures hold it, K rotated: k and v [1, ring tokens, N, d]."""
        start = self.config.num_sink_tokens
        k, v = (self._cache(layer, kv)[:, start:] for kv in "kv")
        cos, sin = (t[0, start:, None] for t in (self.tables.cos_k, self.tables.sin_k))
        even, odd = k[..., 0::2], k[..., 1::2]
        turned = np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
        return turned.reshape(k.shape), v

    def sink(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """k (not rotated) and v of the sink, [1, sink tokens, N, d]."""
        end = self.config.num_sink_tokens
        return self._cache(layer, "k")[:, :end], self._cache(layer, "v")[:, :end]

    def _cache(self, layer: int, kv: str) -> NDArray[np.float32]:
        return self.driver.caches()[f"cache_{kv}_{layer}"].transpose(0, 2, 1, 3)

    @torch.inference_mode()
    def _modulations(self, timestep: float) -> tuple[NDArray[np.float32], ...]:
        return tuple(m.numpy() for m in self.dit.modulations(torch.tensor([timestep])))


def reference_position(first_frame: int, sink_distance: int) -> int:
    """docs/method.md section 2: rests at 30, then always `sink_distance` ahead of the block."""
    rest = preset().pipeline.sink_position
    return rest + max(0, first_frame - (rest - sink_distance))
