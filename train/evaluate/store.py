"""Results on disk, run by run, so that an evaluation that was stopped goes on.

OUT/results.json holds the figures; curves and pictures lie beside it as npz and PNG. Figures of
other files, options or metrics than today's are dropped.
"""

import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

from train.evaluate.run import Score, diversity

Key = tuple[int, int]
"""Face and seed."""


class Store:
    """The results of one evaluation in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("curves", "pictures"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.path = folder / "results.json"
        self._settings: dict[str, dict] = {}
        if self.path.is_file():
            self._settings = json.loads(self.path.read_text())

    def open(self, setting: str, fingerprint: str) -> None:
        """Keep what is known of a setting if it still holds."""
        known = self._settings.get(setting)
        if known is None or known["fingerprint"] != fingerprint:
            self._settings[setting] = {"fingerprint": fingerprint, "runs": {}}

    def has(self, setting: str, key: Key) -> bool:
        return _name(key) in self._settings[setting]["runs"]

    def put(self, setting: str, key: Key, score: Score) -> None:
        """Figures last and in one move: a run that is listed is whole."""
        np.savez_compressed(self._file("curves", setting, key, "npz"), **score.curves)
        Image.fromarray(score.pictures).save(self._file("pictures", setting, key, "png"))
        figures = {name: v for name, v in score.figures.items() if math.isfinite(v)}
        self._settings[setting]["runs"][_name(key)] = figures
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(self._settings, indent=1) + "\n")
        partial.replace(self.path)

    def put_apart(self, name: str, score: Score) -> None:
        """Curves and pictures of something that is no run of a setting."""
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
        with np.load(self._file("curves", setting, key, "npz")) as arrays:
            return dict(arrays)

    def picture(self, setting: str, key: Key) -> Path:
        return self._file("pictures", setting, key, "png")

    def _file(self, folder: str, setting: str, key: Key, suffix: str) -> Path:
        plain = setting.replace(", ", "_").replace(" ", "_")
        return self.folder / folder / f"{plain}_{_name(key).replace(',', '_')}.{suffix}"


def _name(key: Key) -> str:
    return f"{key[0]},{key[1]}"
