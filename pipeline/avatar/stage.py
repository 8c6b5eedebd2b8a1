"""A pipeline stage: the denoising steps that one device owns, and every session's caches there.

A block enters with its latent, passes each owned step in turn (usually one) and leaves less noisy.
Each step has a KV cache of its own, filled with K/V of its own inputs at its own noise level. That
is timestep forcing (Live Avatar, arXiv 2512.04677; docs/method.md section 3).

All steps share one graph and one set of weights: a step is a row of timesteps.safetensors and a
dsigma. What does not depend on the step is computed once per session: the prompt's K/V, and the
sink's, of which every cache gets a copy.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from pipeline.avatar.rope_tables import RopeTables
from pipeline.avatar.sink_cache import SinkCache
from pipeline.config.avatar import PipelineConfig
from pipeline.denoising.schedule import Schedule
from pipeline.engines.base import Array, BoundGraph, Buffers, EngineLoader
from pipeline.engines.onnx import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class StepConstants:
    """What tells one denoising step from another (docs/design.md, One graph for all steps)."""

    modulation: Array
    """[1, 6, D] float32: the timestep's shift, scale and gate for attention and FFN."""
    head_modulation: Array
    """[1, D] float32."""
    dsigma: Array
    """[1] float32: sigma of the next step - sigma of this one, negative."""


class StepSession:
    """One session's cache at one step; `text` is shared by the session's steps."""

    def __init__(self, stage: "Stage", constants: StepConstants, text: Buffers) -> None:
        self.constants = constants
        self.plan = SinkCache(stage.config).plan
        self.rope = RopeTables(stage.config)
        cache = stage.step_engine.new_buffers("cache_")
        tables = {"cos_k": self.rope.cos_k, "sin_k": self.rope.sin_k}
        self.cache = cache
        self.denoise: BoundGraph = stage.step_engine.bind(
            {**cache, **text, **tables}, _written(cache)
        )


@dataclass(slots=True, kw_only=True)
class StageSession:
    """Everything a session owns on this device."""

    steps: list[StepSession]
    prefill: BoundGraph
    """Fills the sink of the first step's cache."""
    motion: Array


class Stage:
    """Denoising steps `steps` of a preset; `open`, `step` and `close` are called by one thread."""

    def __init__(
        self,
        folder: Path,
        steps: list[int],
        num_threads: int = 1,
        load_engine: EngineLoader = Engine,
    ) -> None:
        """Load pipeline.json, dit_step, dit_prefill and dit_text.onnx, timesteps.safetensors."""
        self.config = PipelineConfig.load(folder / "pipeline.json")
        if not steps or any(not 0 <= s < self.config.num_steps for s in steps):
            raise ValueError(
                f"steps is {steps}, wanted some of 0..{self.config.num_steps - 1}, in order"
            )
        self.steps = steps
        self.step_engine = load_engine(folder / "dit_step.onnx", num_threads)
        self.prefill_engine = load_engine(folder / "dit_prefill.onnx", num_threads)
        self.text_engine = load_engine(folder / "dit_text.onnx", num_threads)
        table = load_file(folder / "timesteps.safetensors")
        schedule = Schedule(self.config.num_steps, self.config.shift)
        self.constants = [_constants(table, schedule, step) for step in steps]
        self.clean_modulation = _rows(table, 0.0)[0]
        self.sessions: dict[int, StageSession] = {}
        self._no_pose = np.zeros(self.config.latent_shape, np.float32)
        self._one_actor = np.ones((1, self.config.tokens_per_block, 1), np.float32)

    def open(self, session: int, reference: Array, motion: Array, text: Array) -> None:
        """Give `session` caches, compute its prompt's K/V and fill its sink.

        reference [1, C, 1, h, w], motion [1, C, motion_frames, h, w], text [1, text_len, text_dim].
        """
        shared_text = self.step_engine.new_buffers("text_")
        self.text_engine.bind({}, shared_text).run({"text": text})
        steps = [StepSession(self, c, shared_text) for c in self.constants]
        cache = steps[0].cache
        read = {n: text for n, text in shared_text.items() if n in self.prefill_engine.inputs}
        prefill = self.prefill_engine.bind({**cache, **read}, _written(cache))
        state = StageSession(steps=steps, prefill=prefill, motion=motion)
        self.sessions[session] = state
        self._fill_sink(state, reference)

    def step(
        self,
        session: int,
        block: int,
        latent: Array,
        audio_local: Array,
        audio_global: Array,
        sink_distance: Array,
        reference: Array | None = None,
    ) -> Array:
        """Denoise `block` by every owned step; returns the latent [1, C, F, h, w], valid until
        the next call.

        audio_local [1, F, tokens + 1, D] and audio_global [1, F, D] of the block; sink_distance
        [num_steps] of all steps; `reference` re-calibrates the sink before the block.
        """
        state = self.sessions[session]
        if reference is not None:
            self._fill_sink(state, reference)
        audio = {"audio_local": audio_local, "audio_global": audio_global}
        for number, step in zip(self.steps, state.steps, strict=True):
            latent = self._denoise(step, block, latent, audio, int(sink_distance[number]))
        return latent

    def close(self, session: int) -> None:
        """Free the session's caches; unknown sessions are ignored."""
        self.sessions.pop(session, None)

    def warm_up(self) -> None:
        """Run every graph once: the first run would take two or three times as long."""
        c, nobody = self.config, -1
        channels, *size = c.latent_channels, c.latent_height, c.latent_width
        motion = np.zeros((1, channels, c.motion_frames, *size), np.float32)
        text = np.zeros((1, c.text_len, c.text_dim), np.float32)
        local, overall = (
            np.zeros(shape, np.float32) for shape in (c.audio_local_shape, c.audio_global_shape)
        )
        self.open(nobody, motion[:, :, :1].copy(), motion, text)
        latent = np.zeros(c.latent_shape, np.float32)
        distance = np.full(c.num_steps, c.sink_position, np.int64)
        self.step(nobody, 0, latent, local, overall, distance)
        self.close(nobody)

    def _denoise(
        self, step: StepSession, block: int, latent: Array, audio: Buffers, distance: int
    ) -> Array:
        plan = step.plan(block, distance)
        step.rope.write_block(plan.slot, plan.first_frame)
        step.rope.place_reference(plan.reference_position)
        cos_q, sin_q = step.rope.block_tables(plan.first_frame)
        outputs = step.denoise.run(
            {
                "latent": latent,
                "pose": self._no_pose,
                **audio,
                "actor_mask": self._one_actor,
                "modulation": step.constants.modulation,
                "head_modulation": step.constants.head_modulation,
                "dsigma": step.constants.dsigma,
                "cos_q": cos_q,
                "sin_q": sin_q,
                "write_index": np.array([plan.write_index], np.int64),
                "valid_tokens": np.array([plan.valid_tokens], np.int64),
            }
        )
        latent = outputs["next_latent"]
        return latent

    def _fill_sink(self, state: StageSession, reference: Array) -> None:
        """Fill the sink of every step's cache (docs/method.md section 3).

        Its K/V are those of clean tokens, the same at every step: one is filled, the others get a
        copy. A tensor that all shared would have to be joined with each one's ring in every layer
        of every call.
        """
        first, *others = state.steps
        cos_sink, sin_sink = first.rope.sink_tables()
        state.prefill.run(
            {
                "reference": reference,
                "motion": state.motion,
                "modulation": self.clean_modulation,
                "cos_sink": cos_sink,
                "sin_sink": sin_sink,
                "write_index": np.zeros(1, np.int64),
            }
        )
        for step in others:
            self.step_engine.copy_rows(first.cache, step.cache, self.config.num_sink_tokens)


def _written(cache: Buffers) -> Buffers:
    """The caches as outputs: written in place."""
    return {name.replace("cache_", "present_", 1): array for name, array in cache.items()}


def _rows(table: Buffers, timestep: float) -> tuple[Array, Array]:
    """Modulation [1, 6, D] and head modulation [1, D] of a timestep in timesteps.safetensors."""
    found = np.flatnonzero(np.isclose(table["timesteps"], timestep, rtol=1e-6, atol=1e-4))
    if len(found) == 0:
        raise ValueError(f"timesteps.safetensors has no timestep {timestep}; export it anew")
    row = int(found[0])
    return table["modulation"][row : row + 1], table["head_modulation"][row : row + 1]


def _constants(table: Buffers, schedule: Schedule, step: int) -> StepConstants:
    modulation, head = _rows(table, float(schedule.timesteps[step]))
    return StepConstants(
        modulation=modulation,
        head_modulation=head,
        dsigma=schedule.dsigmas[step : step + 1],
    )
