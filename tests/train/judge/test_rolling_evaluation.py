"""An evaluation of text to video as a whole: tiny networks, a few seconds."""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from networks.causal_wan import CausalWan
from networks.checkpoint import build_seeded, save_checkpoint
from networks.compact_vae import build_vae
from networks.configs import CompactVAEConfig
from networks.text_encoder import TextEncoder, checkpoint_keys, module_key
from train.preset import SCENES
from train.rolling import distil
from train.rolling.evaluate import evaluation, score, sources
from train.rolling.evaluate.evaluation import MEASURING, STREAMING, Evaluation, everything
from train.rolling.evaluate.gates import gates, protocol
from train.rolling.evaluate.prompts import asked
from train.rolling.evaluate.report import write_report
from train.rolling.evaluate.sources import Model, NetworkSource, ReconstructionSource, drawn
from train.rolling.lessons import Texts
from train.rolling.reader import Reader
from train.vae import video
from train.vae.video import to_frames, to_video

TINY = replace(SCENES, wan=replace(SCENES.wan, num_layers=1),
               vae=CompactVAEConfig(dim=16, fine_dim=16),
               stream=replace(SCENES.stream, num_layers=1))  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_checkpoint(build_vae(TINY.vae), folder / "vae.safetensors")
    save_checkpoint(Reader(), folder / "reader.safetensors")
    keys = {module_key(key): key for key in checkpoint_keys(SCENES.text)}
    encoder = build_seeded(lambda: TextEncoder(SCENES.text), 0)
    save_checkpoint(encoder, folder / "text_encoder.safetensors", key_of=keys)
    for seed, name in enumerate(("one", "two")):
        wan = build_seeded(lambda: CausalWan(TINY.wan), seed)
        save_checkpoint(wan, folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def begin(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Evaluation]:
    """Two models under two rules, one prompt, five seconds."""
    for module in (distil, evaluation):
        monkeypatch.setattr(module, "SCENES", TINY)
    monkeypatch.setattr(evaluation, "_whole", lambda: 3)
    monkeypatch.setattr(score, "AFTER_S", 2)
    change_after(7, monkeypatch)
    given = argparse.Namespace(weights=weights, reader=weights / "reader.safetensors",
                               out=tmp_path, batch=2, products="float32")  # fmt: skip
    models = [Model.parsed(f"one={weights}/one.safetensors"),
              Model.parsed(f"two={weights}/two.safetensors:self_forcing")]  # fmt: skip
    short = replace(protocol(), prompts=1, seeds=2, horizons_s=[5])
    return lambda: Evaluation(given, models, short)


def change_after(blocks: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Sooner than is judged; in frames."""
    frames = SCENES.stream.video_frames(blocks)
    for module in (score, sources):
        monkeypatch.setattr(module, "SWITCH", frames)
    monkeypatch.setattr(sources, "SWITCH_BLOCKS", blocks)
    return frames


def test_an_evaluation_goes_on_where_it_stopped_and_reports_in_one_file(
    begin: Callable[[], Evaluation], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Hours of streams would be lost to a stop."""
    whole = begin()
    generate = NetworkSource.generate
    asked_for: list[tuple[int, ...]] = []

    def stopped(self, prompts, seed, num_frames, *, switch):
        asked_for.append((seed, num_frames))
        if len(asked_for) == 2:
            raise KeyboardInterrupt
        return generate(self, prompts, seed, num_frames, switch=switch)

    monkeypatch.setattr(NetworkSource, "generate", stopped)
    with pytest.raises(KeyboardInterrupt):
        whole.run()
    stored = json.loads((tmp_path / "results.json").read_text())
    assert set(stored["one"]["runs"]) == {"0,0"}
    results = begin().run()
    assert asked_for.count((0, 80)) == 2, "one of each model: that of the first is not made again"

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a stream that is stored was made again")

    monkeypatch.setattr(NetworkSource, "generate", refuse)
    again = begin()
    assert again.run() == results
    assert set(results) == {"truth", "vae", "one", "two"}
    assert set(results["one"]) == {(0, 0), (0, 1)}
    first = results["one"][0, 0]
    assert {"words_seen", "diversity", "diversity_true", "switch_s", "drift_5s"} <= set(first)
    assert first["diversity"] > 0

    judged = gates(results["one"], {"megabytes": 11.5})
    page = write_report(tmp_path, again, results, judged, quick=True).read_text()
    assert "not measured" in page
    assert "Gates of one" in page
    assert page.count('src="data:image/') == page.count("src=") == 3 + 8
    assert len(list((tmp_path / "sheets").glob("*.png"))) == 8
    found = json.loads(json.dumps(everything(again, results, judged), allow_nan=False))
    assert found["models"]["truth"]["motion"]["value"] == 1
    assert found["gates"]["megabytes"]["verdict"].startswith("passes")
    assert set(found["differences"]) == {"one against two"}
    assert found["cpu_hours"]["one"] > 0


def test_other_weights_rules_or_code_are_other_figures(
    begin: Callable[[], Evaluation], weights: Path
) -> None:
    """A better checkpoint would get the figures of the old one."""
    whole = begin()
    settings = {s.name: s for s in whole.settings()}
    plain = {name: whole.fingerprint(s) for name, s in settings.items()}
    assert len(set(plain.values())) == len(plain)
    whole.models["one"] = Model.parsed(f"one={weights}/one.safetensors:rolling_forcing,no_sink")
    assert whole.fingerprint(settings["one"]) != plain["one"]
    whole.models["one"] = Model.parsed(f"one={weights}/one.safetensors:longlive")
    left = {s.name for s in whole.settings()}
    assert set(plain) - left == {"one, switch"}, "its cache would have to be run again"
    for name in (*MEASURING, *STREAMING):
        assert evaluation.digest(evaluation.ROOT / name)


def test_a_stream_does_not_depend_on_its_neighbours_and_changes_with_its_prompt(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream would be judged as another one; or a change would come too early or never."""
    torch.manual_seed(0)
    vae, texts = build_vae(TINY.vae), Texts(weights / "text_encoder.safetensors")
    model = Model.parsed(f"one={weights}/one.safetensors")
    wan = build_seeded(lambda: CausalWan(TINY.wan), 0)
    source = NetworkSource(wan, model.config(TINY.stream), texts, vae, 2)
    one, other, cut = asked(0, "test"), asked(1, "test"), change_after(2, monkeypatch)

    def made(prompts: list, *, switch: bool) -> torch.Tensor:
        pieces = source.generate(prompts, 0, 40, switch=switch)
        return torch.cat([torch.from_numpy(piece) for piece in pieces], 1)[0].int()

    kept, beside, changed = (made(prompts, switch=switch) for prompts, switch in
                             (([one], False), ([one, other], False), ([one], True)))  # fmt: skip
    assert (kept - beside).abs().max() <= 1
    assert torch.equal(kept[:cut], changed[:cut])
    assert not torch.equal(kept[cut:], changed[cut:])


def test_the_truth_through_the_vae_is_that_of_the_whole_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Borders of pieces would be seen as faults of the VAE."""
    torch.manual_seed(0)
    monkeypatch.setattr(video, "PIECE", 40)
    vae, one = build_vae(TINY.vae), asked(0, "test")
    pieces = list(ReconstructionSource(vae).generate([one], 0, 60, switch=False))
    assert [piece.shape[1] for piece in pieces] == [41, 19]
    with torch.no_grad():
        whole, _ = vae.decode(vae.encode(to_video(drawn(one, 0, 0, 61, False)[None])))
    assert abs(np.concatenate(pieces, 1).astype(int) - to_frames(whole)[:, :60]).max() <= 1


def test_a_true_stream_is_cut_where_its_prompt_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's own delay would be another one."""
    one, at = asked(0, "test"), change_after(1, monkeypatch)
    cut, kept = (drawn(one, 0, at - 1, at + 1, switch) for switch in (True, False))
    assert (cut[0] == kept[0]).all()
    assert not (cut[1] == kept[1]).all()


def test_models_are_named_with_their_file_and_rules(weights: Path) -> None:
    """A slip of the pen would start hours of something else."""
    path = weights / "one.safetensors"
    without = Model.parsed(f"bare={path}:rolling_forcing,no_sink").config(SCENES.stream)
    assert (without.schedule, without.sink_frames) == ("diagonal", 0)
    assert Model.parsed(f"a={path}:self_forcing").config(SCENES.stream).schedule == "sequential"
    for text, wanted in {
        f"{path}": "wanted NAME=FILE",
        "a=nowhere": "nowhere is not there",
        f"a={path}:rolling": "rules are 'rolling'",
        f"a={path}:rolling_forcing,nosink": "rules end in 'nosink'",
    }.items():
        with pytest.raises(ValueError, match=wanted):
            Model.parsed(text)
