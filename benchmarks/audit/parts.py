"""What a report consists of: benchmarks, each by its own command, large and small."""

from dataclasses import dataclass
from pathlib import Path

GROWTH = "growth"
SLEEPS_MS = (5, 20, 50, 250)
BLOCKS = {5: 300, 20: 200, 50: 150, 250: 40}
"""Of a session, by what a stage sleeps: fewer where they take long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A benchmark that prints one JSON object as its last line."""

    name: str
    question: str
    module: str
    large: str = ""
    small: str = ""
    is_served: bool = False
    """Whether it serves a repository, which has an option of its own."""
    limit_s: float = 1800.0
    left_out: str = ""
    """Why it is measured only if it is asked for."""

    def options(self, is_quick: bool) -> str:
        return self.small if is_quick else self.large

    def arguments(self, is_quick: bool, repository: Path) -> list[str]:
        """What follows `python`."""
        served = ["--repository", str(repository)] if self.is_served else []
        return ["-m", self.module, *self.options(is_quick).split(), *served]


def orchestration(sleep_ms: int) -> str:
    """The name of the part whose stages sleep so long."""
    return f"orchestration_{sleep_ms}"


PARTS = (
    Part(
        name="demo",
        question="How fast is the whole path, from the client's audio to the client's frames?",
        module="benchmarks.bench_demo",
        small="--seconds 4",
        is_served=True,
    ),
    *(
        Part(
            name=orchestration(ms),
            question=f"What does the pipeline cost besides the models, if a stage takes {ms} ms?",
            module="benchmarks.bench_orchestration",
            large=f"--blocks {BLOCKS[ms]} --sleep-ms {ms}",
            small=f"--blocks 24 --sleep-ms {ms}",
        )
        for ms in SLEEPS_MS
    ),
    Part(
        name="schedules",
        question="What does a schedule cost on one device, and what do workers bring?",
        module="benchmarks.bench_schedules",
        small="--blocks 2 --repetitions 2",
    ),
    Part(
        name="peers",
        question="How fast is it beside what a user would run instead?",
        module="benchmarks.peers",
        large="--repetitions 3",
        small="--threads 1 --blocks 2 --repetitions 1",
    ),
    Part(
        name="live",
        question="How soon does a face answer, and how soon is it silent, on the viewer's clock?",
        module="benchmarks.bench_live",
        small="--seconds 8 --bursts 2 --stops 1 --naive-share 0",
        is_served=True,
    ),
    Part(
        name="load",
        question="What do several sessions at once get, by perf_analyzer and by our client?",
        module="benchmarks.load_test",
        large="--limit-s 1200",
        small="--seconds 2.4 --request-s 1.2",
        is_served=True,
    ),
    Part(
        name="audio_context",
        question="How much audio before a block must its features see?",
        module="benchmarks.bench_audio_context",
    ),
    Part(
        name=GROWTH,
        question="Does a server stay as it is, while two people talk and stages are loaded anew?",
        module="benchmarks.soak",
        large="--blocks 10000 --reloads 20",
        small="--blocks 300 --reloads 2",
        is_served=True,
        limit_s=4 * 3600.0,
        left_out="it takes an hour: --part growth --rounds 1, or --growth with the output of "
        "python -m benchmarks.soak",
    ),
)
NAMES = tuple(part.name for part in PARTS)

ELSEWHERE = {
    "The release's own code": "it needs its owner's checkout, weights and GPUs: "
    "python -m benchmarks.peers --release PATH",
    "A GPU": "it needs one: python -m benchmarks.gpu_experiment",
}
"""What a reader looks for and no part measures, with the reason."""


def part_named(name: str) -> Part:
    """ValueError names the parts that there are."""
    for part in PARTS:
        if part.name == name:
            return part
    raise ValueError(f"there is no part {name!r}, wanted one of {', '.join(NAMES)}")
