"""Results on disk, so that an evaluation that was stopped goes on.

OUT/results.json holds the figures of every run; curves and pictures lie beside it as npz and PNG.
Figures of another fingerprint (files, options, metrics) are dropped.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from train.evaluate.run import Score

Key = tuple[int, int]  # face and seed
Curves = dict[str, np.ndarray]
Spread = Callable[[Sequence[Curves]], dict[str, float]]


class Store:
    """The results of one evaluation in its folder."""

    def __init__(self, folder: Path, spread: Spread) -> None:
        """`spread`: how far the seeds of a face are apart, from their curves."""
        self.folder, self.spread = folder, spread
        for name in ("curves", "pictures"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.path = folder / "results.json"
        stored = json.loads(self.path.read_text()) if self.path.is_file() else {}
        self._settings: dict[str, dict] = stored

    def lacks(self, setting: str, fingerprint: str, keys: list[Key]) -> list[Key]:
        """Those that are not known; what is known of a setting is kept if it still holds."""
        known = self._settings.get(setting)
        if known is None or known["fingerprint"] != fingerprint:
            known = self._settings[setting] = {"fingerprint": fingerprint, "runs": {}}
        return [key for key in keys if _name(key) not in known["runs"]]

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
                spread = self.spread([self.curves(setting, key) for key in own])
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
