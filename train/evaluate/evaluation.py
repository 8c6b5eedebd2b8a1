"""Every run of a sweep, with its results on disk."""

import dataclasses
import sys
from contextlib import closing
from pathlib import Path

from rich.progress import Progress, TextColumn, TimeElapsedColumn

from train.evaluate.gates import Results
from train.evaluate.models import MissingFileError, Models
from train.evaluate.run import RunScore, diversity
from train.evaluate.settings import Setting, Sweep
from train.evaluate.sources import Source
from train.evaluate.store import Key, Store
from train.evaluate.video import read_sound
from train.world.clips import Take, take
from train.world.motion import FPS

FRAME_MS = {"truth": 1.0, "vae": 9.0, "served": 30.0}
STEP_MS, DECODE_MS, METRICS_MS = 8.0, 3.0, 16.0  # roughly, a frame on one EPYC core


class Evaluation:
    """A sweep over what there is."""

    def __init__(self, sweep: Sweep, models: Models, out: Path) -> None:
        self.sweep, self.models, self.store = sweep, models, Store(out, diversity)
        self.missing: dict[str, str] = {}
        self._takes: dict[tuple[int, int, str, str | None], Take] = {}
        self.human = None if models.human is None else read_sound(models.human)

    def run(self) -> Results:
        pending = {s: self._pending(s) for s in self.sweep.settings}
        total = {s: len(keys) * self.cost(s) for s, keys in pending.items()}
        for setting in self.sweep.settings:
            reason = self.missing.get(setting.name)
            plan = f"left out: {reason}" if reason else (
                f"{len(pending[setting])} runs of {setting.seconds} s, "
                f"about {total[setting] / 60:.1f} min"
            )  # fmt: skip
            print(f"{setting.name:24} {plan}", file=sys.stderr)
        minutes = sum(total.values()) / 60
        print(f"about {minutes:.0f} minutes in all, of one core", file=sys.stderr, flush=True)
        columns = (*Progress.get_default_columns(), TimeElapsedColumn(), TextColumn("elapsed"))
        with Progress(*columns, disable=not sys.stderr.isatty()) as bar:
            task = bar.add_task("", total=sum(total.values()) or 1)
            for setting, keys in pending.items():
                bar.update(task, description=setting.name)
                if not keys:
                    continue
                with closing(self.models.source(setting)) as source:
                    for group in self._groups(source, setting, keys):
                        self._run_group(source, setting, group)
                        bar.advance(task, len(group) * self.cost(setting))
        measured = (s for s in self.sweep.settings if s.name not in self.missing)
        return {s.name: self.store.runs(s.name, self._faces(s), range(s.seeds)) for s in measured}

    def _faces(self, setting: Setting) -> range:
        return range(self.sweep.first_face, self.sweep.first_face + setting.faces)

    def _pending(self, setting: Setting) -> list[Key]:
        try:
            fingerprint = self.models.fingerprint(setting, self.sweep)
        except MissingFileError as reason:
            self.missing[setting.name] = str(reason)
            return []
        keys = [(f, seed) for seed in range(setting.seeds) for f in self._faces(setting)]
        return self.store.lacks(setting.name, fingerprint, keys)

    def cost(self, setting: Setting) -> float:
        steps = int(dict(setting.rollout).get("num_steps", 4))  # type: ignore[call-overload]
        making = FRAME_MS.get(setting.model, DECODE_MS + steps * STEP_MS)
        return 25e-3 * setting.seconds * (making + METRICS_MS / setting.piece_every)

    def _groups(self, source: Source, setting: Setting, keys: list[Key]) -> list[list[Key]]:
        size, groups = source.batch, []
        for seed in range(setting.seeds):
            own = [key for key in keys if key[1] == seed]
            groups += [own[i : i + size] for i in range(0, len(own), size)]
        return groups

    def _run_group(self, source: Source, setting: Setting, group: list[Key]) -> None:
        seed = group[0][1]
        takes = [self._take(setting, face) for face, _ in group]
        # The same others for the same face, whatever the group: the next ones, around the ring.
        scores = [
            RunScore(t, self._others(setting, face), seed, setting.piece_every)
            for t, (face, _) in zip(takes, group, strict=True)
        ]
        for frames in source.generate(takes, seed):
            for score, own in zip(scores, frames, strict=True):
                score.add(own)
        for key, score in zip(group, scores, strict=True):
            self.store.put(setting.name, key, score.finish())

    def _others(self, setting: Setting, face: int) -> list[Take]:
        """Short runs are compared with sounds as long; faces alone would not need them."""
        start = self.sweep.first_face
        count = max(setting.faces, self.sweep.num_others + 1)
        offsets = range(1, self.sweep.num_others + 1)
        if setting.kind == "given":  # all faces say the same there
            setting = dataclasses.replace(setting, kind="speech")
        return [self._take(setting, start + (face - start + i) % count) for i in offsets]

    def _take(self, setting: Setting, face: int) -> Take:
        """Takes are shared by settings of equal length, sound and mood."""
        key = (face, setting.seconds, setting.kind, setting.mood)
        if key not in self._takes:
            audio, num_frames = None, setting.seconds * FPS
            if setting.kind == "given":
                assert self.human is not None
                audio, num_frames = self.human, min(num_frames, len(self.human) // 640)
            kind = "speech" if audio is not None else setting.kind
            self._takes[key] = take(
                face, num_frames, split=self.sweep.split, audio=audio, kind=kind,
                mood=setting.mood, told=setting.mood is not None,
            )  # fmt: skip
        return self._takes[key]
