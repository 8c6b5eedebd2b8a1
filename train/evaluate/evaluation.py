"""Every run of a sweep, and its results on disk, so that an evaluation that was stopped goes on.

OUT/results.json holds the figures; curves and pictures lie beside it as npz and PNG. Figures of
other files, options or metrics than today's are dropped.
"""

import dataclasses
import json
import math
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from train.evaluate.gates import Results
from train.evaluate.models import MissingFileError, Models
from train.evaluate.run import RunScore, Score, diversity
from train.evaluate.settings import Setting, Sweep
from train.evaluate.sources import Source
from train.evaluate.video import read_sound
from train.world.clips import Take, take
from train.world.motion import FPS

Key = tuple[int, int]  # face and seed
FRAME_MS = {"truth": 1.0, "vae": 9.0, "served": 30.0}
STEP_MS, DECODE_MS, METRICS_MS = 8.0, 3.0, 16.0  # roughly, a frame on one EPYC core


class Store:
    """The results of one evaluation in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("curves", "pictures"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.path = folder / "results.json"
        stored = json.loads(self.path.read_text()) if self.path.is_file() else {}
        self._settings: dict[str, dict] = stored

    def open(self, setting: str, fingerprint: str) -> None:
        """Keep what is known of a setting if it still holds."""
        known = self._settings.get(setting)
        if known is None or known["fingerprint"] != fingerprint:
            self._settings[setting] = {"fingerprint": fingerprint, "runs": {}}

    def has(self, setting: str, key: Key) -> bool:
        return _name(key) in self._settings[setting]["runs"]

    def put(self, setting: str, key: Key, score: Score) -> None:
        """Figures last and in one move: a run that is listed is whole."""
        self.put_apart(_plain(setting, key), score)
        figures = {name: v for name, v in score.figures.items() if math.isfinite(v)}
        self._settings[setting]["runs"][_name(key)] = figures
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(self._settings, indent=1) + "\n")
        partial.replace(self.path)

    def put_apart(self, name: str, score: Score) -> None:
        np.savez_compressed(self.folder / "curves" / f"{name}.npz", **score.curves)
        Image.fromarray(score.pictures).save(self.folder / "pictures" / f"{name}.png")

    def runs(self, setting: str, faces: range, seeds: range) -> dict[Key, dict[str, float]]:
        """Figures by face and seed, with the diversity of faces that have several seeds."""
        stored = self._settings.get(setting, {"runs": {}})["runs"]
        keys = [(face, seed) for face in faces for seed in seeds if _name((face, seed)) in stored]
        runs = {key: dict(stored[_name(key)]) for key in keys}
        for face in faces:
            own = [key for key in keys if key[0] == face]
            if len(own) > 1:
                spread = diversity([self.curves(setting, key) for key in own])
                for key in own:
                    runs[key] |= spread
        return runs

    def curves(self, setting: str, key: Key) -> dict[str, np.ndarray]:
        with np.load(self.folder / "curves" / f"{_plain(setting, key)}.npz") as arrays:
            return dict(arrays)

    def picture(self, setting: str, key: Key) -> Path:
        return self.folder / "pictures" / f"{_plain(setting, key)}.png"


def _plain(setting: str, key: Key) -> str:
    setting = setting.replace(", ", "_").replace(" ", "_")
    return f"{setting}_{_name(key).replace(',', '_')}"


def _name(key: Key) -> str:
    return f"{key[0]},{key[1]}"


class Evaluation:
    """A sweep over what there is."""

    def __init__(self, sweep: Sweep, models: Models, out: Path) -> None:
        self.sweep, self.models, self.store = sweep, models, Store(out)
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
        return {s.name: self.runs(s) for s in self.sweep.settings if s.name not in self.missing}

    def runs(self, setting: Setting) -> dict[Key, dict[str, float]]:
        return self.store.runs(setting.name, self._faces(setting), range(setting.seeds))

    def _faces(self, setting: Setting) -> range:
        return range(self.sweep.first_face, self.sweep.first_face + setting.faces)

    def _pending(self, setting: Setting) -> list[Key]:
        try:
            fingerprint = self.models.fingerprint(setting, self.sweep)
        except MissingFileError as reason:
            self.missing[setting.name] = str(reason)
            return []
        self.store.open(setting.name, fingerprint)
        keys = [(f, seed) for seed in range(setting.seeds) for f in self._faces(setting)]
        return [key for key in keys if not self.store.has(setting.name, key)]

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
