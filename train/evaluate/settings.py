"""What is compared: every setting of the evaluation, in its full and its quick form."""

import dataclasses
from dataclasses import dataclass
from typing import Self

from train.world.measure import MOUTH_MOODS

TRUTH, CAP, LONG = "truth", "vae", "long"
STUDENT, TEACHER, TEACHER_IN_4 = "student 4", "teacher 40", "teacher 4"
CLEAN, ROLLING = "clean history", "student 4 rolling"
HUMAN = ("human", "human, vae")
"""Settings that gates, plots and comparisons ask for by name; the last are reported apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to make frames, over some faces and seeds."""

    name: str
    about: str
    model: str
    """truth, vae, served, or the name of a checkpoint."""
    rollout: tuple[tuple[str, object], ...] = ()
    """Fields of `train.network.stream_network.RolloutOptions` that differ from its defaults."""
    kind: str = "speech"
    """What sounds: see `train.world.speech.KINDS`; "given" is the caller's file."""
    seconds: int
    faces: int
    seeds: int
    piece_every: int = 1
    """Of pieces of five seconds, the first and every so many-th are measured."""
    mood: str | None = None
    """One of `train.world.measure.MOUTH_MOODS` that the prompt alone tells: the portrait is
    neutral. None: each face has its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two settings whose difference is asked for, over the faces and seeds that both have."""

    one: str
    other: str
    question: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What an evaluation measures and compares."""

    settings: tuple[Setting, ...]
    pairs: tuple[Pair, ...]
    split: str = "test"
    first_face: int = 0
    """Seed in the split."""
    num_others: int = 6
    """Other faces and sounds that each run is compared with."""
    batch: int = 8
    """Streams side by side."""

    def chosen(self, names: list[str]) -> Self:
        """Only these settings; ValueError for an unknown name."""
        known = {s.name: s for s in self.settings}
        if unknown := sorted(set(names) - set(known)):
            raise ValueError(f"unknown setting {unknown[0]!r}, known are {', '.join(known)}")
        kept = tuple(s for s in self.settings if s.name in names)
        return dataclasses.replace(self, settings=kept)

    def resized(self, **most: int | None) -> Self:
        """With at most so many `faces`, `seeds` and `seconds` in every setting; None: as it is."""
        given = {name: limit for name, limit in most.items() if limit is not None}
        settings = tuple(
            dataclasses.replace(s, **{name: min(getattr(s, name), n) for name, n in given.items()})
            for s in self.settings
        )
        return dataclasses.replace(self, settings=settings)


_QUESTIONS = (
    (STUDENT, TEACHER, "Does distillation cost anything?"),
    (STUDENT, TEACHER_IN_4, "Does distillation buy anything at 4 steps?"),
    ("student 3", STUDENT, "3 steps against 4"),
    ("student 2", STUDENT, "2 steps against 4"),
    ("student 1", STUDENT, "1 step against 4"),
    *((f"student {few}", TEACHER, f"The student's {few} against the teacher's 40")
      for few in (3, 2, 1)),
    ("no sink", STUDENT, "Without the sink, everything else equal"),
    ("no sink, window 5", STUDENT, "Without the sink, but with one block more in the window"),
    ("no sink", "window 3", "Without the sink, against a window one block shorter with it"),
    ("sink at first only", STUDENT, "The sink is forgotten like any block"),
    ("trained without sink", STUDENT, "Never had a sink, in training either"),
    ("window 1", STUDENT, "A window of 1 block against 4"),
    ("window 2", STUDENT, "A window of 2 blocks against 4"),
    ("window 3", STUDENT, "A window of 3 blocks against 4"),
    (CLEAN, STUDENT, "Clean-history caches against timestep forcing"),
    (ROLLING, STUDENT, "The joint window against timestep forcing"),
    (ROLLING, CLEAN, "The joint window alone: history is clean in both"),
    (f"{ROLLING}, fresh noise", ROLLING,
     "Rolling Forcing's sampler against Euler's in the joint window"),
    (f"{ROLLING}, 1 before", ROLLING, "1 clean block before the joint window against 3"),
    (f"{ROLLING}, none before", STUDENT,
     "The joint window alone, without any history, against timestep forcing"),
    ("uncorrupted", STUDENT, "Trained without history corruption"),
    ("served", STUDENT, "The exported graphs against torch"),
)  # fmt: skip
PAIRS = tuple(Pair(one=one, other=other, question=asked) for one, other, asked in _QUESTIONS)


def _settings(seconds: int, long_s: int, faces: int, seeds: int, few: int) -> tuple[Setting, ...]:
    """`few`: faces of what only needs a look, and seeds are one there and in the ablations."""

    def of(name: str, about: str, model: str = "student", **more: object) -> Setting:
        values = {"seconds": seconds, "faces": faces, "seeds": 1} | more
        return Setting(name=name, about=about, model=model, **values)  # type: ignore[arg-type]

    def steps(count: int) -> tuple[tuple[str, object], ...]:
        return (("num_steps", count),)

    no_sink = ("sink", False)
    rolling = (("schedule", "rolling"), ("history", "clean"))
    return (
        of(TRUTH, "the renderer itself: the metrics' own error", "truth"),
        of(CAP, "true clips through the VAE and back: the cap", "vae"),
        of(STUDENT, "what is shipped: 4 steps, sink, timestep forcing", seeds=seeds),
        of(TEACHER, "40 steps", "teacher", rollout=steps(40), seeds=seeds),
        of(TEACHER_IN_4, "the teacher in the student's 4 steps", "teacher", seeds=seeds),
        *(of(f"student {n}", f"{n} steps", rollout=steps(n)) for n in (3, 2, 1)),
        of("no sink", "sink left out", rollout=(no_sink,)),
        of("no sink, window 5", "sink left out, window one block longer",
           rollout=(no_sink, ("window_blocks", 5))),
        of("sink at first only", "sink seen by the first 4 blocks only",
           rollout=(("sink_blocks", 4),)),
        of("trained without sink", "another checkpoint", "sinkless", rollout=(no_sink,)),
        *(of(f"window {n}", f"window of {n}", rollout=(("window_blocks", n),)) for n in (3, 2, 1)),
        of(CLEAN, "caches hold what the last step made", rollout=(("history", "clean"),)),
        of(ROLLING, "4 blocks at 4 noise levels see each other, and 3 clean ones", rollout=rolling),
        of("student 4 rolling, fresh noise", "the same, predicting and adding noise",
           rollout=(*rolling, ("sampler", "renoise"))),
        of("student 4 rolling, 1 before", "the same, and 1 clean one as in Rolling Forcing",
           rollout=(*rolling, ("window_blocks", 2))),
        of("student 4 rolling, none before", "the same, and no clean one",
           rollout=(*rolling, ("window_blocks", 1))),
        of("uncorrupted", "another checkpoint", "uncorrupted"),
        of("silence", "a silent microphone", kind="silence", seconds=min(20, seconds)),
        *(of(f"told {mood}", f"a neutral portrait, the prompt says {mood}", mood=mood,
             seconds=min(10, seconds)) for mood in MOUTH_MOODS),
        of("served", "the exported graphs in the served code", "served", faces=few),
        of(LONG, "the student for a long time", seconds=long_s, piece_every=4),
        of("human", "a recorded human voice", kind="given", faces=few),
        of("human, vae", "the cap for that voice", "vae", kind="given", faces=few),
    )  # fmt: skip


LONGER = (
    *("student 3", "student 2", "no sink, window 5", "sink at first only", "window 3", "window 2"),
    ROLLING,
    *(f"told {mood}" for mood in MOUTH_MOODS),
    *(f"{ROLLING}, {how}" for how in ("fresh noise", "1 before", "none before")),
)
"""What the quick form leaves out."""

FULL = Sweep(settings=_settings(60, 600, 24, 3, 8), pairs=PAIRS)
QUICK = Sweep(
    settings=tuple(
        s if s.name in (TRUTH, CAP, STUDENT) else dataclasses.replace(s, faces=2)
        for s in _settings(10, 60, 4, 1, 2)
        if s.name not in LONGER
    ),
    pairs=PAIRS,
    num_others=3,
    batch=4,
)
