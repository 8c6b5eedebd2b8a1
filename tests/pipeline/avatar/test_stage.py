"""A stage computes once what its steps share: the prompt's K/V, and the sink's at each prefill."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from pipeline.avatar.stage import Stage
from pipeline.engines.base import Buffers
from pipeline.engines.onnx import Binding, Engine

DEMO = Path(__file__).parents[3] / "artifacts" / "demo"


class CountingEngine(Engine):
    """Counts the runs of each graph."""

    runs: Counter[str]

    def bind(self, reads: Buffers, writes: Buffers) -> Binding:
        binding, count = super().bind(reads, writes), self.count

        class Counting(type(binding)):  # type: ignore[misc]
            def run(self, inputs: Mapping[str, np.ndarray]) -> Buffers:
                count()
                return super().run(inputs)

        binding.__class__ = Counting
        return binding

    def count(self) -> None:
        self.runs[self.path.stem] += 1


def play(steps: list[int], num_blocks: int) -> tuple[Counter[str], Stage]:
    """A session with a new reference before block 1."""
    runs: Counter[str] = Counter()
    loader = type("Loader", (CountingEngine,), {"runs": runs})
    stage = Stage(DEMO, steps, load_engine=loader)
    c, rng = stage.config, np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    motion = random(1, c.latent_channels, c.motion_frames, c.latent_height, c.latent_width)
    stage.open(1, motion, random(1, c.text_len, c.text_dim), motion[:, :, :1].copy())
    for block in range(num_blocks):
        stage.step(
            1,
            block,
            random(*c.latent_shape),
            random(*c.audio_local_shape),
            random(*c.audio_global_shape),
            np.full(c.num_steps, c.sink_position),
            random(1, c.latent_channels, 1, *c.latent_shape[3:]) if block == 1 else None,
        )
    return runs, stage


@pytest.mark.parametrize("steps", [[0], [1, 2], [0, 1, 2, 3]])
def test_a_prompt_is_read_once_and_a_sink_filled_once_for_all_steps(steps: list[int]) -> None:
    """At 14B a prefill is most of a second, and the text's part of it 2 TFLOP."""
    runs, stage = play(steps, num_blocks=2)
    passes = 2 * len(steps)
    assert runs == {"dit_text": 1, "dit_sink": 2, "dit_embed": passes, "dit_step": passes + 2}
    first, *others = (step.cache for step in stage.sessions[1].steps)
    end = stage.config.num_sink_tokens
    for other in others:
        for name, array in first.items():
            np.testing.assert_array_equal(other[name][:, :, :end], array[:, :, :end])
            assert not np.array_equal(other[name][:, :, end:], array[:, :, end:])
    assert first["cache_k_0"][:, :, :end].any()


def latents(stage: Stage, past: int, ring_start: int) -> np.ndarray:
    """Of blocks 5..7 of a session whose blocks before are drawn from `past`."""
    c, rng = stage.config, np.random.default_rng(1)
    blocks = [np.random.default_rng([past, n]) for n in range(5)] + [rng] * 3
    motion = np.ones((1, c.latent_channels, c.motion_frames, *c.latent_shape[3:]), np.float32)
    stage.open(1, motion, np.ones((1, c.text_len, c.text_dim), np.float32), motion[:, :, :1])
    made = []
    for block, draw in enumerate(blocks):
        shapes = c.latent_shape, c.audio_local_shape, c.audio_global_shape
        drawn = [draw.standard_normal(shape, np.float32) for shape in shapes]
        anew = {"ring_start": np.full(c.num_steps, 5)} if block == ring_start else {}
        made.append(stage.step(1, block, *drawn, np.full(c.num_steps, 30), **anew).copy())
    stage.close(1)
    return np.concatenate(made[5:])


def test_a_session_that_is_re_anchored_forgets_its_past_to_the_last_bit() -> None:
    """What has gone astray would come back through the ring."""
    stage = Stage(DEMO, [1, 2])
    never = 99
    assert not np.array_equal(latents(stage, 1, never), latents(stage, 2, never))
    np.testing.assert_array_equal(latents(stage, 1, 5), latents(stage, 2, 5))


def with_last_step_left_out(steps: list[int], past: int, left_out: range) -> list[np.ndarray]:
    """Latents of blocks 0..7, where the last step is left out for some blocks, and blocks before 4
    are drawn from `past`."""
    stage = Stage(DEMO, steps)
    c, start = stage.config, np.zeros(stage.config.num_steps, np.int64)
    motion = np.ones((1, c.latent_channels, c.motion_frames, *c.latent_shape[3:]), np.float32)
    stage.open(1, motion, np.ones((1, c.text_len, c.text_dim), np.float32), motion[:, :, :1])
    made = []
    for block in range(8):
        draw = np.random.default_rng([past if block < 4 else 0, block])
        shapes = c.latent_shape, c.audio_local_shape, c.audio_global_shape
        drawn = [draw.standard_normal(shape, np.float32) for shape in shapes]
        told = {}
        if block in left_out:
            start[-1] = block + 1
            told = {"ring_start": start.copy()}
        made.append(stage.step(1, block, *drawn, np.full(c.num_steps, 30), **told).copy())
    return made


def test_a_step_that_was_left_out_takes_nothing_from_the_others() -> None:
    """Their rings would lack the block, and every later one would be another picture."""
    alone = with_last_step_left_out([2], 1, range(0))
    whole = with_last_step_left_out([2, 3], 1, range(0))
    spared = with_last_step_left_out([2, 3], 1, range(4, 6))
    for block in range(8):
        same_as = (alone if block in (4, 5) else whole)[block]
        if block < 6:
            np.testing.assert_array_equal(spared[block], same_as)
        else:  # the last step starts at sigma 0.0089, so its past changes little
            assert 0 < np.abs(spared[block] - same_as).max() < 0.1


def test_a_step_that_was_left_out_begins_its_ring_anew() -> None:
    """Its ring would show blocks of long ago beside the new one."""
    one, other = (with_last_step_left_out([3], past, range(4, 6))[6:] for past in (1, 2))
    np.testing.assert_array_equal(one, other)
    one, other = (with_last_step_left_out([3], past, range(0))[6:] for past in (1, 2))
    assert not np.array_equal(one, other)


def test_a_stage_whose_only_step_is_left_out_hands_the_latent_on() -> None:
    """The decoder would get what the step before did not make."""
    stage = Stage(DEMO, [3])
    c, draw = stage.config, np.random.default_rng(0)
    motion = np.ones((1, c.latent_channels, c.motion_frames, *c.latent_shape[3:]), np.float32)
    stage.open(1, motion, np.ones((1, c.text_len, c.text_dim), np.float32), motion[:, :, :1])
    shapes = c.latent_shape, c.audio_local_shape, c.audio_global_shape
    latent, *audio = (draw.standard_normal(shape, np.float32) for shape in shapes)
    start, distance = np.array([0, 0, 0, 1]), np.full(c.num_steps, 30)
    made = stage.step(1, 0, latent, *audio, distance, ring_start=start)
    np.testing.assert_array_equal(made, latent)
    assert not np.shares_memory(made, latent), "a message's memory is somebody else's soon"
    assert not np.array_equal(stage.step(1, 1, latent, *audio, distance), latent)
