"""A pipeline stage: the denoising steps that one device owns, and every session's caches there.

A block enters with its latent, passes each owned step in turn (usually one) and leaves less noisy.
Each step has a KV cache of its own, filled with K/V of its own inputs at its own noise level. That
is timestep forcing (Live Avatar, arXiv 2512.04677; docs/method.md section 3).

All steps share one graph and one set of weights: a step is a row of timesteps.safetensors and a
dsigma. What does not depend on the step is computed once per session: the prompt's K/V, and the
sink's, of which every cache gets a copy. Other devices may get a copy, too (`sink`).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from pipeline.avatar.rope_tables import RopeTables
from pipeline.avatar.sink_cache import BlockPlan, SinkCache
from pipeline.config.avatar import PipelineConfig
from pipeline.denoising.schedule import Schedule
from pipeline.engines.base import Array, BoundGraph, Buffers, EngineLoader, LoadedGraph
from pipeline.engines.memory import MappedMemory
from pipeline.engines.onnx import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class StepConstants:
    """What tells one denoising step from another (docs/design.md, One graph for all steps)."""

    modulation: Array
    """[1, 6, D] float32: the timestep's shift, scale and gate for attention and FFN."""
    head_modulation: Array  # [1, D] float32
    dsigma: Array  # [1] float32: sigma of the next step - sigma of this one, negative


class StepSession:
    """One session's cache at one step; `text` is shared by the session's steps."""

    def __init__(
        self, stage: "Stage", number: int, text: Buffers, memory: MappedMemory | None
    ) -> None:
        self.number, self.constants = number, stage.constants[number]
        self.plan = SinkCache(stage.config).plan
        self.rope = RopeTables(stage.config)
        self.cache = (
            stage.trunk.new_buffers("cache_")
            if memory is None
            else stage.trunk.buffers_in(memory, "cache_")
        )
        self.denoise: BoundGraph = stage.block_input.bind(stage.trunk, self.cache, text)


@dataclass(slots=True, kw_only=True)
class StageSession:
    """Everything a session owns on this device."""

    steps: list[StepSession]
    prefill: BoundGraph  # fills the sink of the first step's cache
    text: Buffers  # the prompt's K/V, which all steps read
    motion: Array
    reference: Array | None
    actor_mask: Array  # [actors, F, S, 1]
    ring_start: Array  # int64 [num_steps]: the first block that each step's ring may hold
    has_sink: bool = False


class TrunkInput:
    """What passes the trunk: tokens that a graph embeds, and the velocity that comes of them.

    All sessions of a device take turns on the same memory.
    """

    def __init__(self, trunk: LoadedGraph, embed: LoadedGraph, shape: tuple[int, ...]) -> None:
        """`shape` of the tokens: [frames, tokens of a frame, D]."""
        self.tokens = trunk.allocate(shape, trunk.inputs["tokens"][1])
        self.embed = embed.bind({}, {"tokens": self.tokens})
        self.velocity = np.zeros((*shape[:2], trunk.outputs["velocity"][0][-1]), np.float32)

    def bind(self, trunk: LoadedGraph, cache: Buffers, text: Buffers) -> BoundGraph:
        """The trunk on these tokens and a session's cache, which is written in place."""
        written = {name.replace("cache_", "present_", 1): array for name, array in cache.items()}
        reads = {**cache, **text, "tokens": self.tokens}
        return trunk.bind(reads, {**written, "velocity": self.velocity})


class Stage:
    """Denoising steps `steps` of a preset; `open`, `step` and `close` are called by one thread."""

    def __init__(
        self,
        folder: Path,
        steps: list[int] | None,
        num_threads: int = 1,
        load_engine: EngineLoader = Engine,
    ) -> None:
        """Load pipeline.json, dit_step, dit_embed, dit_sink, dit_text.onnx and
        timesteps.safetensors. `steps` None: each session says which."""
        self.config = PipelineConfig.load(folder / "pipeline.json")
        self.steps = None if steps is None else self._checked(steps)
        self.trunk, embed, embed_sink, self.text_engine = (
            load_engine(folder / f"{name}.onnx", num_threads)
            for name in ("dit_step", "dit_embed", "dit_sink", "dit_text")
        )
        c, dim = self.config, self.config.num_heads * self.config.head_dim
        self.block_input = TrunkInput(
            self.trunk, embed, (c.frames_per_block, c.tokens_per_frame, dim)
        )
        self.sink_input = TrunkInput(self.trunk, embed_sink, (1, c.num_sink_tokens, dim))
        table = load_file(folder / "timesteps.safetensors")
        schedule = Schedule(self.config.num_steps, self.config.shift)
        self.constants = [_constants(table, schedule, n) for n in range(self.config.num_steps)]
        self._clean = _rows(table, 0.0)
        self.sessions: dict[int, StageSession] = {}
        self._no_pose = np.zeros(c.latent_shape, np.float32)
        self._one_actor = np.ones((1, *self.block_input.tokens.shape[:2], 1), np.float32)
        self._unheard = {
            "audio_local": np.zeros((1, 1, *c.audio_local_shape[2:]), np.float32),
            "audio_global": np.zeros((1, 1, dim), np.float32),
            "actor_mask": np.zeros((1, *self.sink_input.tokens.shape[:2], 1), np.float32),
        }

    def open(
        self,
        session: int,
        motion: Array,
        text: Array,
        reference: Array | None = None,
        actor_mask: Array | None = None,
        sink: Array | None = None,
        ring_start: Array | None = None,
        memory: Array | None = None,
        steps: Array | None = None,
    ) -> None:
        """Give `session` caches, compute its prompt's K/V and fill its sink. Without `reference`
        and `sink` the first block has to bring one.

        `memory` names a `KeptMemory` in which the caches are to lie. A session that another process
        lost is opened there again, with what held then (`sink` and `ring_start` are as in `step`),
        and goes on behind its last block. `steps` int64: those of this session, None: the stage's.

        motion [1, C, motion_frames, h, w], text [1, text_len, text_dim], reference [1, C, 1, h, w],
        actor_mask [actors, S]: which tokens of a frame each actor's sound moves; None: one, all.
        """
        shared_text = self.trunk.new_buffers("text_")
        place = None if memory is None else MappedMemory(memory)
        numbers = self._checked(self.steps if steps is None else steps.tolist())
        owned = [StepSession(self, number, shared_text, place) for number in numbers]
        state = StageSession(
            steps=owned,
            prefill=self.sink_input.bind(self.trunk, owned[0].cache, shared_text),
            text=shared_text,
            motion=motion,
            reference=reference,
            actor_mask=self._one_actor if actor_mask is None else self._every_frame(actor_mask),
            ring_start=(
                np.zeros(self.config.num_steps, np.int64)
                if ring_start is None
                else np.array(ring_start)
            ),
        )
        self.sessions[session] = state
        self._read_prompt(state, text)
        if sink is not None:
            self._set_sink(state, sink)
        elif reference is not None:
            self._fill_sink(state, reference)

    def step(
        self,
        session: int,
        block: int,
        latent: Array | None = None,
        audio_local: Array | None = None,
        audio_global: Array | None = None,
        sink_distance: Array | None = None,
        reference: Array | None = None,
        text: Array | None = None,
        sink: Array | None = None,
        ring_start: Array | None = None,
        pose: Array | None = None,
    ) -> Array | None:
        """Denoise `block` by every owned step; returns the latent [1, C, F, h, w]. None without a
        latent: then nobody wants the block any more, and the rest holds for those after it.

        audio_local [actors, F, tokens + 1, D] and audio_global [actors, F, D] of the block;
        sink_distance [num_steps] of all steps. From this block on the prompt is `text`, and the
        sink is that of `reference`, under the new prompt too; or `sink` fills it with what another
        stage computed. `ring_start` int64 [num_steps] holds from here on: a step sees no block
        before its own any more, and is left out for `block` itself if that is one. Then the latent
        leaves as it came.
        `pose`: the latent of a pose video's frames, shaped as `latent`; None where there is none.
        """
        state = self.sessions[session]
        state.reference = state.reference if reference is None else reference
        if text is not None:
            self._read_prompt(state, text)
        if sink is not None:
            self._set_sink(state, sink)
        elif reference is not None or text is not None:
            self._fill_sink(state, state.reference)
        if not state.has_sink:
            raise ValueError(f"session {session} has no sink: neither reference nor sink has come")
        if ring_start is not None:
            state.ring_start = np.array(ring_start)
        if latent is None:
            return None
        assert audio_local is not None
        assert audio_global is not None
        assert sink_distance is not None
        given = {
            "audio_local": audio_local,
            "audio_global": audio_global,
            "actor_mask": state.actor_mask,
        }
        pose, made = self._no_pose if pose is None else pose, latent
        for step in state.steps:
            if (first := int(state.ring_start[step.number])) > block:
                continue
            plan = step.plan(block, int(sink_distance[step.number]), first)
            made = self._denoise(step, plan, {"latent": made, "pose": pose}, given)
        return latent.copy() if made is latent else made

    def sink(self, session: int) -> Array:
        """K/V of the session's sink as bytes, which `step` of another stage takes."""
        first = self.sessions[session].steps[0]
        return self.trunk.read_rows(first.cache, self.config.num_sink_tokens)

    @property
    def cache_bytes(self) -> int:
        return self.trunk.cache_bytes

    def close(self, session: int) -> None:
        """Free the session's caches; unknown sessions are ignored."""
        self.sessions.pop(session, None)

    def warm_up(self) -> None:
        """Run every graph, the trunk twice on a full cache: the first run would take two or three
        times as long, and the second is what a GPU captures."""
        c, nobody = self.config, -1
        channels, *size = c.latent_channels, c.latent_height, c.latent_width
        motion = np.zeros((1, channels, c.motion_frames, *size), np.float32)
        text = np.zeros((1, c.text_len, c.text_dim), np.float32)
        local, overall = (
            np.zeros(shape, np.float32) for shape in (c.audio_local_shape, c.audio_global_shape)
        )
        first = np.array(self.steps or [0])
        self.open(nobody, motion, text, motion[:, :, :1].copy(), steps=first)
        latent = np.zeros(c.latent_shape, np.float32)
        distance = np.full(c.num_steps, c.sink_position, np.int64)
        for block in (c.window_blocks - 1, c.window_blocks):
            self.step(nobody, block, latent, local, overall, distance)
        self.close(nobody)

    def _checked(self, steps: list[int] | None) -> list[int]:
        if not steps or any(not 0 <= step < self.config.num_steps for step in steps):
            raise ValueError(
                f"steps is {steps}, wanted some of 0..{self.config.num_steps - 1}, in order"
            )
        return steps

    def _denoise(self, step: StepSession, plan: BlockPlan, block: Buffers, heard: Buffers) -> Array:
        """A step: `block` is what `dit_embed` takes, `heard` the sound and who it belongs to."""
        for slot, first_frame in plan.ring:  # not the last alone: the session may be back
            step.rope.write_block(slot, first_frame)
        step.rope.place_reference(plan.reference_position)
        cos_q, sin_q = step.rope.block_tables(plan.first_frame)
        self.block_input.embed.run(block)
        step.denoise.run(
            {
                **heard,
                "modulation": step.constants.modulation,
                "head_modulation": step.constants.head_modulation,
                "cos_q": cos_q,
                "sin_q": sin_q,
                "cos_k": step.rope.cos_k[:, : plan.valid_tokens],
                "sin_k": step.rope.sin_k[:, : plan.valid_tokens],
                "write_index": np.array([plan.write_index], np.int64),
            }
        )
        velocity = unpatchified(self.block_input.velocity, self.config)
        latent: Array = block["latent"] + step.constants.dsigma * velocity
        return latent

    def _every_frame(self, actor_mask: Array) -> Array:
        """[actors, S] -> [actors, F, S, 1]."""
        frames = self.config.frames_per_block
        return np.repeat(actor_mask[:, None, :, None], frames, axis=1)

    def _read_prompt(self, state: StageSession, text: Array) -> None:
        self.text_engine.bind({}, state.text).run({"text": text})

    def _fill_sink(self, state: StageSession, reference: Array | None) -> None:
        """Compute the sink's K/V (docs/method.md section 3)."""
        if reference is None:
            raise ValueError("the session was opened without a reference, so a sink has to come")
        cos, sin = state.steps[0].rope.sink_tables()
        self.sink_input.embed.run({"reference": reference, "motion": state.motion})
        state.prefill.run(
            {
                **self._unheard,
                "modulation": self._clean[0],
                "head_modulation": self._clean[1],
                **{"cos_q": cos, "sin_q": sin, "cos_k": cos, "sin_k": sin},
                "write_index": np.zeros(1, np.int64),
            }
        )
        self._copy_sink(state)

    def _set_sink(self, state: StageSession, sink: Array) -> None:
        self.trunk.write_rows(sink, state.steps[0].cache, self.config.num_sink_tokens)
        self._copy_sink(state)

    def _copy_sink(self, state: StageSession) -> None:
        """From the first step's cache to the others: the sink's K/V are those of clean tokens, the
        same at every step. A tensor that all shared would have to be joined with each one's ring in
        every layer of every call.
        """
        first, *others = state.steps
        for step in others:
            self.trunk.copy_rows(first.cache, step.cache, self.config.num_sink_tokens)
        state.has_sink = True


def unpatchified(velocity: Array, config: PipelineConfig) -> Array:
    """Patches [F, S, patch^2 * C], each (row, column, channel) -> latents [1, C, F, h, w]."""
    side = config.patch_size
    patches = velocity.reshape(config.frames_per_block, *config.token_grid, side, side, -1)
    return patches.transpose(5, 0, 1, 3, 2, 4).reshape(config.latent_shape)


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
