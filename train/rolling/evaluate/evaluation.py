"""Every stream of an evaluation, and what the streams of a model amount to together."""

import argparse
import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from networks.checkpoint import load_checkpoint
from networks.compact_vae import build_vae
from train.evaluate.gates import Gate, Results, compare, says
from train.evaluate.metrics import Runs, as_json, by_face
from train.evaluate.models import ROOT, digest
from train.evaluate.settings import Pair
from train.evaluate.store import Key, Store
from train.network import quick_layers
from train.preset import SCENES
from train.rolling.distil import load
from train.rolling.evaluate.gates import METRICS, Protocol, gates, protocol, read_measured
from train.rolling.evaluate.prompts import Asked, asked
from train.rolling.evaluate.score import FPS, StreamScore, SwitchScore, diversity
from train.rolling.evaluate.sources import (
    Model,
    NetworkSource,
    ReconstructionSource,
    Source,
    TruthSource,
)
from train.rolling.lessons import Texts
from train.rolling.reader import Reader

TRUTH, CAP = "truth", "vae"
TRUE_SEEDS = 2  # truths of a prompt: as many as say how far apart they are
BESIDE = ("change", "change_step", "sharpness", "diversity")  # of the truth, for ratios
QUICK = {"prompts": 3, "seeds": 1, "horizons_s": [30]}
MEASURING = (  # code whose change makes old figures worthless
    *("train/scenes", "train/world", "train/vae/video.py", "train/rolling/reader.py"),
    *(
        f"train/rolling/evaluate/{n}.py"
        for n in ("prompts", "colours", "words", "score", "sources")
    ),
    *(f"train/evaluate/metrics_{name}.py" for name in ("motion", "picture")),
)
STREAMING = ("train/rolling/stream.py", "train/rolling/rollout.py", "pipeline/rolling/plan.py",
             "networks/causal_wan.py", "pipeline/denoising")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Streams of one kind."""

    name: str
    model: str  # TRUTH, CAP, or a model's name
    seeds: int = 1
    switch: bool = False
    """Short streams whose prompts change."""


class Evaluation:
    """Models beside each other, the truth and its reconstruction, under one protocol."""

    def __init__(
        self, given: argparse.Namespace, models: Sequence[Model], wanted: Protocol
    ) -> None:
        """`given` has weights, reader, out, batch and products."""
        names = [TRUTH, CAP, *(model.name for model in models)]
        if len(set(names)) < len(names):
            raise ValueError(f"models are {', '.join(names[2:])}, wanted names of their own")
        self.models, self.protocol, self.given = {m.name: m for m in models}, wanted, given
        self.names, self.store = names, Store(given.out, diversity)
        self.crowd = [asked(i, wanted.split) for i in range(max(wanted.prompts, _whole()))]
        self.asked = self.crowd[: wanted.prompts]

    @cached_property
    def reader(self) -> Reader:
        return load_checkpoint(Reader(), self.given.reader).eval()

    @cached_property
    def vae(self):
        return load_checkpoint(build_vae(SCENES.vae), self.given.weights / "vae.safetensors")

    @property
    def num_frames(self) -> int:
        return max(self.protocol.horizons_s) * FPS

    def settings(self) -> Iterator[Setting]:
        seeds = {TRUTH: min(TRUE_SEEDS, self.protocol.seeds), CAP: 1}
        for name in self.names:
            yield Setting(name=name, model=name, seeds=seeds.get(name, self.protocol.seeds))
            if self._may_switch(name):
                yield Setting(name=f"{name}, switch", model=name, switch=True)

    def _may_switch(self, name: str) -> bool:
        """Whether its streams go on under another prompt without their cache being run again."""
        model = self.models.get(name)
        return model is None or model.config(SCENES.stream).recache == "none"

    def run(self) -> Results:
        """Make the streams that are missing; then figures of every model."""
        for setting in self.settings():
            keys = [(each.number, s) for s in range(setting.seeds) for each in self.asked]
            missing = self.store.lacks(setting.name, self.fingerprint(setting), keys)
            print(f"{setting.name:28} {len(missing)} streams of {len(keys)}", file=sys.stderr)
            if missing:
                self._make(setting, self.source(setting), missing)
        return {name: self.runs(name) for name in self.names}

    def _make(self, setting: Setting, source: Source, keys: list[Key]) -> None:
        for seed in range(setting.seeds):
            own = [self.asked[number] for number, s in keys if s == seed]
            for start in range(0, len(own), source.batch):
                group, begun = own[start : start + source.batch], time.process_time()
                scores = [self._score(setting, each) for each in group]
                for frames in source.generate(
                    group, seed, scores[0].num_frames, switch=setting.switch
                ):
                    for score, made in zip(scores, frames, strict=True):
                        score.add(made)
                whole = [score.finish() for score in scores]
                spent = {"cpu_s": (time.process_time() - begun) / len(group)}
                for each, done in zip(group, whole, strict=True):
                    done.figures.update(spent)
                    self.store.put(setting.name, (each.number, seed), done)
                print(f"  {setting.name}: {', '.join(str(each.number) for each in group)} of seed "
                      f"{seed}, {spent['cpu_s']:.0f} CPU-s each", file=sys.stderr)  # fmt: skip

    def _score(self, setting: Setting, each: Asked) -> StreamScore | SwitchScore:
        if setting.switch:
            return SwitchScore(each, self.reader)
        others = [other.words for other in self.crowd if other is not each]
        return StreamScore(each, self.reader, self.num_frames, self.protocol.horizons_s, others)

    def source(self, setting: Setting) -> Source:
        if setting.model == TRUTH:
            return TruthSource()
        if setting.model == CAP:
            return ReconstructionSource(self.vae)
        model = self.models[setting.model]
        texts = Texts(self.given.weights / "text_encoder.safetensors")
        config = model.config(SCENES.stream)
        return NetworkSource(load(model.path), config, texts, self.vae, self.given.batch)

    def fingerprint(self, setting: Setting) -> str:
        """Equal for equal figures: of files, options and the code that measures."""
        files = [self.given.reader, *(ROOT / name for name in MEASURING)]
        options: list[object] = [self.protocol.split, max(self.protocol.horizons_s),
                                 len(self.crowd), setting.switch]  # fmt: skip
        if setting.model != TRUTH:
            files.append(self.given.weights / "vae.safetensors")
        if (model := self.models.get(setting.model)) is not None:
            files += [model.path, self.given.weights / "text_encoder.safetensors"]
            files += [ROOT / name for name in STREAMING]
            options += [model.rules, self.given.products]
        text = "".join(digest(file) for file in files) + repr(options)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def runs(self, name: str) -> Runs:
        """Figures of a model's streams, those of its changed prompts, and the truth's beside."""
        numbers, seeds = range(len(self.asked)), range(self.protocol.seeds)
        found = self.store.runs(name, numbers, seeds)
        switched = self.store.runs(f"{name}, switch", numbers, range(1))
        true = self.store.runs(TRUTH, numbers, seeds)
        beside = {each: by_face(true, each) for each in BESIDE}
        for key, figures in found.items():
            kept = switched.get(key, {})
            figures |= {each: kept[each] for each in ("switch_s", "switched", "kept")
                        if each in kept}  # fmt: skip
            figures |= {f"{each}_true": values[key[0]] for each, values in beside.items()
                        if key[0] in values}  # fmt: skip
        return found

    def cpu_hours(self) -> dict[str, float]:
        """What each kind of stream has cost, all of them together."""
        every = [(s.name, self.store.runs(s.name, range(len(self.asked)), range(s.seeds)))
                 for s in self.settings()]  # fmt: skip
        return {name: sum(run["cpu_s"] for run in runs.values()) / 3600 for name, runs in every}

    @property
    def pairs(self) -> list[Pair]:
        first, *others = self.models or ["none"]
        return [Pair(one=first, other=other, question=f"{first}, or {other}?") for other in others]


def _whole() -> int:
    """Prompts of the whole protocol: others are always drawn from these."""
    return protocol().prompts


def everything(
    evaluation: Evaluation, results: Results, judged: dict[str, Gate]
) -> dict[str, object]:
    """All figures with their intervals over prompts, gates, differences and costs."""
    of = "prompts"
    return {
        "models": {
            name: {m.name: as_json(m.estimate(runs), of) for m in METRICS}
            for name, runs in results.items()
        },
        "gates": {
            name: as_json(gate.found, of) | {"wanted": gate.wanted, "verdict": gate.verdict}
            for name, gate in judged.items()
        },
        "differences": {
            f"{p.one} against {p.other}": {
                title: as_json(change, of) | {"says": says(change)}
                for title, change in compare(results, p.one, p.other, METRICS).items()
                if change.known
            }
            for p in evaluation.pairs
        },
        "cpu_hours": {name: round(h, 4) for name, h in evaluation.cpu_hours().items()},
    }


def evaluate(args: argparse.Namespace) -> None:
    """Judge the first of the models, the others beside it, and write the report."""
    torch.set_num_threads(args.threads)
    quick_layers.set_products(args.products)
    changed = dict(QUICK) if args.quick else {}
    changed |= {name: getattr(args, name) for name in ("prompts", "seeds", "split", "horizons_s")
                if getattr(args, name) is not None}  # fmt: skip
    wanted = dataclasses.replace(protocol(), **changed)
    measured = read_measured(args.measured)
    evaluation = Evaluation(args, [Model.parsed(text) for text in args.models], wanted)
    results = evaluation.run()
    first = next(iter(evaluation.models), TRUTH)
    judged = gates(results[first], measured)
    from train.rolling.evaluate.report import write_report  # other commands need no plots

    found = everything(evaluation, results, judged)
    (args.out / "figures.json").write_text(json.dumps(found, indent=1) + "\n")
    path = write_report(args.out, evaluation, results, judged, quick=args.quick)
    for name, gate in judged.items():
        print(f"{name:20} {gate.found!s:28} {gate.wanted:14} {gate.verdict}")
    print(f"{path}, {sum(evaluation.cpu_hours().values()):.2f} CPU-hours in all")
