"""The window or the decoder dies in mid-stream, and nobody who watches can tell."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config.rolling import RollingConfig
from pipeline.config.rules import DEPLOYED, served_rules
from pipeline.engines.base import Array, Arrays
from pipeline.rolling.device import WindowDevice
from pipeline.rolling.executor import DECODER, WINDOW, RollingExecutor
from pipeline.rolling.kept import KeptStream, exact_blocks, keep_streams
from pipeline.rolling.local import local_executor
from pipeline.rolling.orchestrator import RollingOrchestrator
from pipeline.rolling.request import RollingOptions, RollingRequest
from pipeline.rolling.window import WindowStage
from pipeline.sessions.calls import LocalCalls
from pipeline.sessions.kept import DECODER_BLOCKS, keep_blocks
from pipeline.sessions.replay import ReplayedCalls
from tests.pipeline.sessions.mortal_calls import MortalCalls
from tests.support.fake_executor import FakeReply

pytestmark = pytest.mark.long

FOLDER = Path(__file__).parents[3] / "artifacts" / "rolling-demo"
CONFIG = RollingConfig.load(FOLDER / "rolling.json")
MANY = 10_000
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def executor() -> Any:
    executor = local_executor(FOLDER)
    yield executor
    executor.stop()


@pytest.fixture(scope="module")
def device(executor: RollingExecutor) -> WindowDevice:
    """With a set of rules that nobody is served, whose sink moves."""
    device: WindowDevice = executor.calls.holders[WINDOW].device
    served = device.stages["longlive"]
    config = dataclasses.replace(served.config, recache="new_sink")
    tables = {
        "timesteps": np.append(served.levels.timesteps, config.context_timestep),
        "modulation": served.modulation,
        "head_modulation": served.head_modulation,
    }
    device.stages["new_sink"] = WindowStage(config, served.engines, tables)
    return device


class Streamed:
    """A stream of `num_blocks`, tick by tick: what it makes, and what is kept after some ticks."""

    def __init__(
        self, device: WindowDevice, rules: str, num_blocks: int, prompts: tuple[int, ...] = ()
    ) -> None:
        """`prompts`: ticks that bring another."""
        self.device, config = device, device.stages[rules].config
        self.opening: Arrays = {
            "text": self.text(0),
            "seed": np.array([3]),
            "rules": np.frombuffer(rules.encode(), np.uint8),
        }
        self.served = {rules: config}
        self.inputs: list[dict[str, Array]] = [
            {} for _ in range(num_blocks + config.window_blocks - 1)
        ]
        self.inputs[0]["num_blocks"] = np.array([num_blocks])
        for tick in prompts:
            self.inputs[tick]["text"] = self.text(tick)

    def text(self, number: int) -> Array:
        shape = (1, CONFIG.text_len, CONFIG.text_dim)
        return np.random.default_rng(number).standard_normal(shape, np.float32)

    def run(self, deaths: Mapping[int, list[int]]) -> dict[tuple[int, int], float]:
        """Tick -> how many blocks are kept, when the device dies before it. Gives the largest
        difference that any later block has, by (tick, blocks)."""
        self.device.open(1, **self.opening)
        kept = {
            (tick, blocks): KeptStream(self.opening, self.served, blocks)
            for tick, every in deaths.items()
            for blocks in every
        }
        made = []
        for tick, inputs in enumerate(self.inputs):
            latent = self.device.step(1, tick, **inputs)
            made.append(None if latent is None else latent.copy())
            held = self.device.in_flight(1)
            for (death, _), stream in kept.items():
                if tick < death:
                    stream.add(tick, {**inputs, "in_flight": held})
        self.device.close(1)
        return {place: self._after(place[0], stream, made) for place, stream in kept.items()}

    def _after(self, death: int, kept: KeptStream, made: list[Array | None]) -> float:
        self.device.open(2, **self.opening)
        for _, again in kept.history():
            inputs = dict(again)
            assert self.device.step(2, int(inputs.pop("block")[0]), **inputs) is None
        worst = 0.0
        for tick in range(death, min(death + 8, len(made))):
            latent, wanted = self.device.step(2, tick, **self.inputs[tick]), made[tick]
            assert (latent is None) == (wanted is None)
            if latent is not None and wanted is not None:
                worst = max(worst, float(np.abs(latent - wanted).max()))
        self.device.close(2)
        return worst


@slow
@pytest.mark.parametrize("rules", [DEPLOYED, "self_forcing"])
def test_so_many_blocks_are_enough_for_equal_bits_and_one_less_is_not(
    device: WindowDevice, rules: str
) -> None:
    """A viewer would see another video from there on; or memory would be spent for nothing."""
    config = device.stages[rules].config
    exact = exact_blocks(config)
    num_blocks = exact + config.sink_blocks + config.window_blocks + 2
    last = num_blocks + config.window_blocks - 2
    stream = Streamed(device, rules, num_blocks)
    differences = stream.run({last: [exact, exact - 1], 2: [MANY], 8: [MANY]})
    assert differences.pop((last, exact - 1)) > 0
    assert set(differences.values()) == {0.0}


PROMPTS = (1, 7, 13, 19, 40, 62)


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(rules, marks=slow)
        for rules in (DEPLOYED, "rolling_recache", "self_forcing", "longlive", "new_sink")
    ],
)
def test_a_stream_comes_back_under_the_prompts_of_its_blocks(
    device: WindowDevice, rules: str
) -> None:
    """Cached blocks would be those of another prompt, or stand in another's place."""
    deaths = (1, 2, 8, 14, 20, 25, 41, 42, 63, 70)
    differences = Streamed(device, rules, 80, PROMPTS).run({tick: [MANY] for tick in deaths})
    assert set(differences.values()) == {0.0}


def stream(
    executor: RollingExecutor,
    *,
    num_blocks: int,
    dies: tuple[str, int] | None = None,
    blocks: int = MANY,
    rules: str = DEPLOYED,
) -> tuple[list[Array], MortalCalls]:
    """Frames of a stream with a change of prompt, one of whose models dies at a tick."""
    assert isinstance(executor.calls, LocalCalls)
    mortal, served = MortalCalls(executor.calls), served_rules(CONFIG)
    keeps = {WINDOW: keep_streams(served, blocks), DECODER: keep_blocks(DECODER_BLOCKS)}
    mortal.at = [dies] if dies else []
    replayed = RollingExecutor(CONFIG, FOLDER, ReplayedCalls(mortal, keeps))
    server = RollingOrchestrator(served, replayed, max_sessions=1, idle_timeout_s=60)
    first, half = FakeReply(), num_blocks // 2
    options = RollingOptions(rules=rules)
    start = RollingRequest(session=1, start=True, end=False, options=options, num_blocks=half)
    second = RollingRequest(
        session=1, start=False, end=True, prompt="rain", num_blocks=num_blocks - half
    )
    server.submit(dataclasses.replace(start, prompt="fog", seed=5), first)
    rest = FakeReply()
    server.submit(second, rest)
    ended = first.wait(120), rest.wait(120)
    replayed.stop = lambda: None  # type: ignore[method-assign]
    server.stop()
    assert ended == ("", "")
    return [block.frames for block in (*first.blocks, *rest.blocks)], mortal


@pytest.fixture(scope="module")
def undisturbed(executor: RollingExecutor) -> dict[tuple[str, int], list[Array]]:
    """By rules and length, as they are wanted."""

    class Runs(dict[tuple[str, int], list[Array]]):
        def __missing__(self, wanted: tuple[str, int]) -> list[Array]:
            rules, num_blocks = wanted
            self[wanted], mortal = stream(executor, num_blocks=num_blocks, rules=rules)
            assert mortal.reopened == []
            return self[wanted]

    return Runs()


DEATHS = [
    (DEPLOYED, WINDOW, 9),
    (DEPLOYED, DECODER, 8),
    *(
        pytest.param(*death, marks=slow)
        for death in (
            *((DEPLOYED, WINDOW, tick) for tick in (0, 1, 13, 30)),
            *((DEPLOYED, DECODER, block) for block in (0, 1, 9)),
            *(("longlive", WINDOW, tick) for tick in (0, 6, 11)),
        )
    ),
]


@pytest.mark.parametrize(("rules", "model", "tick"), DEATHS)
def test_frames_after_a_death_are_those_of_an_undisturbed_run(
    executor: RollingExecutor, undisturbed: Mapping[Any, Any], rules: str, model: str, tick: int
) -> None:
    """A viewer would see another video from there on, or the end."""
    num_blocks = max(12, tick)
    frames, mortal = stream(executor, num_blocks=num_blocks, dies=(model, tick), rules=rules)
    assert [lost for lost, _ in mortal.reopened] == [model]
    for one, other in zip(frames, undisturbed[rules, num_blocks], strict=True):
        np.testing.assert_array_equal(one, other)


@slow
def test_fewer_blocks_are_nearly_as_good(
    executor: RollingExecutor, undisturbed: Mapping[Any, Any]
) -> None:
    """What is exact takes longer to repeat, and at 1.3 billion weights some seconds."""
    frames, _ = stream(executor, num_blocks=30, dies=(WINDOW, 24), blocks=6)
    pairs = zip(frames, undisturbed[DEPLOYED, 30], strict=True)
    differences = [np.abs(a.astype(int) - b.astype(int)).max() for a, b in pairs]
    assert max(differences[:20]) == 0
    assert max(differences) <= 2
