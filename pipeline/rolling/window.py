"""Text-to-video streams on one device: every tick denoises a window of blocks and finishes one. By
the integers of `pipeline.rolling.plan` it runs the graph of clean passes for the block that was
finished before, then the window's graph, then adds noise (docs/method.md section 8)."""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np

from pipeline.config.rolling import RollingConfig
from pipeline.denoising.positions import grid, tables
from pipeline.denoising.schedule import Levels
from pipeline.engines.base import Array, BoundGraph, Buffers, LoadedGraph
from pipeline.rolling.plan import Pass, RollingPlan

Noise = Callable[[int, int], Array]
"""Block and level -> standard normal noise [1, C, F, h, w] that enters this block there."""


class FinishedBlock(NamedTuple):
    """A block that has passed all levels."""

    block: int
    latent: Array  # [1, C, F, h, w], clean


class WindowSession:
    """Everything one stream owns on this device: caches, prompt, blocks in flight, its place."""

    def __init__(
        self, config: RollingConfig, engines: Mapping[str, LoadedGraph], noise: Noise
    ) -> None:
        self.noise = noise
        self.plan = RollingPlan(config)
        self.next_tick = 0
        self.num_blocks: int | None = None
        """Blocks of the stream, once no more are to enter."""
        self.switched = False
        """Whether the next tick is the first under a new prompt."""
        self.in_flight: dict[int, Array] = {}
        self.finished: dict[int, Array] = {}
        """Clean latents of the latest blocks, as many as may be run again."""
        window = engines["dit_window"]
        self.cache: Buffers = window.new_buffers("cache_")
        self.text: Buffers = window.new_buffers("text_")
        self.text_pass = engines["dit_text"].bind({}, self.text)
        written = {name.replace("cache_", "present_", 1): a for name, a in self.cache.items()}
        self.storing: dict[str, BoundGraph] = {}
        for name in ("dit_clean",) if config.recache == "none" else ("dit_clean", "dit_recache"):
            inputs = engines[name].inputs  # of the text all layers but the last
            text = {key: array for key, array in self.text.items() if key in inputs}
            self.storing[name] = engines[name].bind({**self.cache, **text}, written)
        self.velocities: dict[int, Array] = {}
        """Output memory for each number of blocks in a window."""
        self.windows: dict[int, BoundGraph] = {}

    @property
    def done(self) -> bool:
        """Whether every block of the stream is finished."""
        num_blocks = self.num_blocks
        return num_blocks is not None and self.next_tick >= self.plan.num_ticks(num_blocks)


class WindowStage:
    """All levels of a text-to-video preset; methods are called by one thread."""

    def __init__(
        self, config: RollingConfig, engines: Mapping[str, LoadedGraph], constants: Buffers
    ) -> None:
        """`engines` holds dit_window, dit_clean, dit_text and, if the config re-caches,
        dit_recache; `constants` is window_timesteps.safetensors."""
        self.config = config
        self.engines = engines
        self.levels = Levels(config)
        self.modulation = constants["modulation"]
        self.head_modulation = constants["head_modulation"]
        self._check_timesteps(constants["timesteps"])
        self.sessions: dict[int, WindowSession] = {}
        # With an adjacent sink the same few positions return for ever.
        self._block_tables = lru_cache(maxsize=4 * config.cache_blocks)(self._compute_tables)

    def open(self, session: int, text: Array, noise: Noise) -> None:
        """Start a stream: text [1, text_len, text_dim] with zero rows after the prompt."""
        state = WindowSession(self.config, self.engines, noise)
        state.text_pass.run({"text": text})
        self.sessions[session] = state

    def switch(self, session: int, text: Array) -> None:
        """From the next tick on another prompt holds, for the blocks in flight too. If the config
        says so, the cached blocks are run again under it first."""
        state = self.sessions[session]
        state.text_pass.run({"text": text})
        state.switched = True

    def step(self, session: int) -> FinishedBlock | None:
        """Run the stream's next tick; a new block enters unless `end` was called. None while the
        window still fills. RuntimeError after the last tick."""
        state = self.sessions[session]
        if state.done:
            raise RuntimeError(f"session {session}: all {state.num_blocks} blocks are finished")
        plan = state.plan.switch_tick if state.switched else state.plan.tick
        tick = plan(state.next_tick, state.num_blocks)
        state.switched = False
        if tick.store is not None:
            self.store(state, tick.store)
        for each in tick.denoise:
            self.denoise(state, each)
        state.next_tick += 1
        if (block := tick.finished) is None:
            return None
        self._finish(state, block, state.in_flight.pop(block))
        return FinishedBlock(block, state.finished[block])

    def in_flight(self, session: int) -> Array:
        """What the last tick left: the block that it finished, if any, and those in flight, in
        order, [1, C, frames, h, w]."""
        state = self.sessions[session]
        block = state.next_tick - self.config.window_blocks
        latents = [state.finished[block]] if block >= 0 else []
        return np.concatenate(
            [*latents, *map(state.in_flight.get, sorted(state.in_flight))], axis=2
        )

    def repeat(self, session: int, number: int, in_flight: Array) -> None:
        """Do tick `number` of which is known what it left, or its first block alone. Caches are
        written, nothing is denoised. Ticks may be left out: a block that is stored sees what is
        there. Those it needs itself must have been left by ticks before, or nothing is stored."""
        state = self.sessions[session]
        plan = state.plan.switch_tick if state.switched else state.plan.tick
        store = plan(number, state.num_blocks).store
        state.switched = False
        if store is not None and all(block in state.finished for block in store.blocks):
            self.store(state, store)
        state.next_tick = number + 1
        done = number + 1 - self.config.window_blocks
        latents = np.split(in_flight, in_flight.shape[2] // self.config.frames_per_block, axis=2)
        for block, latent in enumerate(latents, max(0, done)):
            if block == done:
                state.in_flight.pop(block, None)
                self._finish(state, block, latent)
            else:
                state.in_flight[block] = latent

    def end(self, session: int, num_blocks: int | None = None) -> None:
        """No more blocks enter; those in flight are finished by further steps. With `num_blocks`
        the stream has that many: fewer than have entered, and the last of them are left unfinished,
        or more, which still enter."""
        state = self.sessions[session]
        if num_blocks is not None:
            state.num_blocks = num_blocks
        elif state.num_blocks is None:
            state.num_blocks = state.next_tick

    def drain(self, session: int) -> Iterator[FinishedBlock]:
        """End the stream and finish its blocks in flight."""
        self.end(session)
        while not self.sessions[session].done:
            if (block := self.step(session)) is not None:
                yield block

    def close(self, session: int) -> None:
        """Free the stream's memory; unknown sessions are ignored."""
        self.sessions.pop(session, None)

    def warm_up(self) -> None:
        """Run every graph in every shape once: a first run would take longer."""
        c, nobody = self.config, -1
        zeros = np.zeros(c.latent_shape, np.float32)
        text = np.zeros((1, c.text_len, c.text_dim), np.float32)
        self.open(nobody, text, lambda _block, _level: zeros)
        for _ in range(c.window_blocks + c.cache_blocks):
            self.step(nobody)
        if c.recache != "none":
            self.switch(nobody, text)
        for _ in self.drain(nobody):
            pass
        self.close(nobody)

    def _finish(self, state: WindowSession, block: int, latent: Array) -> None:
        keep = 1 if self.config.recache == "none" else self.config.cache_blocks
        kept = {b: done for b, done in state.finished.items() if b > block - keep}
        state.finished = {**kept, block: latent}

    def denoise(self, state: WindowSession, each: Pass) -> None:
        """One level further for every block of the pass."""
        assert each.levels is not None
        for block in each.blocks:
            if block not in state.in_flight:
                state.in_flight[block] = state.noise(block, 0)
        latent = np.concatenate([state.in_flight[block] for block in each.blocks], axis=2)
        velocities = self.velocity(state, each, latent)
        frames = self.config.frames_per_block
        for i, (block, level) in enumerate(zip(each.blocks, each.levels, strict=True)):
            velocity = velocities[:, :, i * frames : (i + 1) * frames]
            noise = partial(state.noise, block)
            noisy = state.in_flight[block]
            state.in_flight[block] = self.levels.advance(level, noisy, velocity, noise)

    def velocity(self, state: WindowSession, each: Pass, latent: Array) -> Array:
        """The network on a window: latent [1, C, frames, h, w] -> velocity, valid until the next
        call for as many frames."""
        assert each.levels is not None
        num_blocks = len(each.blocks)
        if num_blocks not in state.windows:
            state.velocities[num_blocks] = np.zeros(latent.shape, np.float32)
            state.windows[num_blocks] = self.engines["dit_window"].bind(
                {**state.cache, **state.text}, {"velocity": state.velocities[num_blocks]}
            )
        rows = np.repeat(each.levels, self.config.frames_per_block)
        state.windows[num_blocks].run(
            {
                "latent": latent,
                "modulation": self.modulation[rows],
                "head_modulation": self.head_modulation[rows],
                **self._sight(each),
            }
        )
        return state.velocities[num_blocks]

    def store(self, state: WindowSession, each: Pass) -> None:
        """Write the K/V of finished blocks into the cache."""
        config = self.config
        latent = np.concatenate([state.finished[block] for block in each.blocks], axis=2)
        context = np.full(latent.shape[2], config.num_levels)  # the row after the levels'
        inputs = {
            "latent": latent,
            "modulation": self.modulation[context],
            "write_index": np.array([each.write_slot * config.tokens_per_block], np.int64),
            **self._sight(each),
        }
        if each.graph == "dit_recache":
            stored = range(each.stored.start - each.blocks.start, len(each.blocks))
            inputs["stored"] = np.array(stored, np.int64)
        state.storing[each.graph].run(inputs)

    def _sight(self, each: Pass) -> Buffers:
        """Tables of a pass's own frames and of the cached blocks it sees, and their slots."""
        step = self.config.frames_per_block
        own = [self._block_tables(each.position + i * step) for i in range(len(each.blocks))]
        history = [self._block_tables(key.position) for key in each.history]
        shape = (len(history), self.config.tokens_per_block, self.config.head_dim // 2)
        return {
            "cos": np.concatenate([cos for cos, _ in own]),
            "sin": np.concatenate([sin for _, sin in own]),
            "cos_history": np.array([cos for cos, _ in history], np.float32).reshape(shape),
            "sin_history": np.array([sin for _, sin in history], np.float32).reshape(shape),
            "slots": np.array([key.slot for key in each.history], np.int64),
        }

    def _compute_tables(self, position: int) -> tuple[Array, Array]:
        """cos and sin [F, S, d/2] of a block whose first frame stands at `position`."""
        c = self.config
        frames = tuple(range(position, position + c.frames_per_block))
        cos, sin = tables(grid(frames, c.token_grid), c.head_dim)
        shape = (c.frames_per_block, c.tokens_per_frame, c.head_dim // 2)
        return cos.reshape(shape), sin.reshape(shape)

    def _check_timesteps(self, found: Array) -> None:
        wanted = [*self.levels.timesteps.tolist(), self.config.context_timestep]
        if len(found) != len(wanted) or not np.allclose(found, wanted, rtol=1e-6, atol=1e-4):
            raise ValueError(
                f"window_timesteps.safetensors is for timesteps {found.tolist()}, rolling.json "
                f"wants {wanted}; export it anew"
            )
