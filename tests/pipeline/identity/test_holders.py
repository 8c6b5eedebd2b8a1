"""Which sets of models may serve together, decided with integers and strings."""

import dataclasses
from typing import Any

import pytest

from pipeline.identity.holders import Identity, differences

FILES = {"dit_step.onnx": "aa" * 32, "dit.safetensors": "bb" * 32, "vae.safetensors": "cc" * 32}
STAGE_FILES = {name: FILES[name] for name in ("dit_step.onnx", "dit.safetensors")}
CONFIG = {"num_steps": 4, "shift": 3.0, "denoising_steps": [1000, 500], "sink_distance": None}


def identity(model: str, **changed: Any) -> Identity:
    values: dict[str, Any] = {"max_sessions": 2, "config_file": "pipeline.json", "config": CONFIG}
    return Identity(model=model, **{**values, "files": FILES, **changed})


PUBLIC = identity("live_avatar", num_steps=4)
STAGES = [identity(f"dit_stage_{i}", steps=(i,), files=STAGE_FILES) for i in range(4)]
DECODER = identity("vae_decoder", files={"vae.safetensors": FILES["vae.safetensors"]})
HOLDERS = [*STAGES, DECODER]


def changed(number: int, **values: Any) -> list[Identity]:
    """HOLDERS, one of them another."""
    holders = list(HOLDERS)
    holders[number] = dataclasses.replace(holders[number], **values)
    return holders


def folded(*steps: tuple[int, ...]) -> list[Identity]:
    """Stages that own these steps, and the decoder."""
    stages = [
        dataclasses.replace(STAGES[0], model=f"dit_stage_{i}", steps=own)
        for i, own in enumerate(steps)
    ]
    return [*stages, DECODER]


@pytest.mark.parametrize(
    "holders", [HOLDERS, folded((0, 1), (2, 3)), folded((0, 1, 2, 3)), folded((0,), (1, 2, 3))]
)
def test_models_of_one_export_and_configuration_agree(holders: list[Identity]) -> None:
    """A good repository would be refused."""
    told = [Identity.from_json(holder.to_json()) for holder in holders]
    assert differences(PUBLIC, told) == []


OTHER_WEIGHTS = {**STAGE_FILES, "dit.safetensors": "dd" * 32}
LIMITS = "dit_stage_1 takes max_sessions {}, live_avatar 2; they must be equal"


@pytest.mark.parametrize(
    ("holders", "words"),
    [
        (changed(1, max_sessions=1), [LIMITS.format(1)]),
        (changed(1, max_sessions=3), [LIMITS.format(3)]),
        (changed(4, max_sessions=1), ["vae_decoder takes max_sessions 1, live_avatar 2"]),
        (
            changed(2, config={**CONFIG, "num_steps": 3}),
            ["dit_stage_2 has num_steps 3 in its pipeline.json, live_avatar 4"],
        ),
        (
            changed(4, config={**CONFIG, "sink_distance": 30}),
            ["vae_decoder has sink_distance 30 in its", "live_avatar null in its"],
        ),
        (
            changed(0, config={**CONFIG, "denoising_steps": [1000, 400]}),
            ["dit_stage_0 has denoising_steps [1000, 400]", "live_avatar [1000, 500]"],
        ),
        (changed(0, config={**CONFIG, "fps": 16}), ["dit_stage_0 has fps 16", "live_avatar noth"]),
        (changed(0, config={"num_steps": 4}), ["shift nothing", "sink_distance nothing"]),
        (
            changed(3, files=OTHER_WEIGHTS),
            ["dit_stage_3 is of another export", "dit.safetensors (sha256 dddddddddddd…", "bbbb"],
        ),
        (changed(2, steps=(1,)), ["0..3 once and in order", "dit_stage_2 1, dit_stage_3 3"]),
        (changed(3, steps=(2,)), ["dit_stage_3 2"]),
        (folded((0,), (1,), (2,)), ["live_avatar has 4 steps", "dit_stage_2 2"]),
        (folded((1,), (0,), (2,), (3,)), ["once and in order"]),
        ([STAGES[0], *HOLDERS], ["dit_stage_0 0, dit_stage_0 0, dit_stage_1 1"]),
        (folded((0, 1), (1, 2), (3,)), ["dit_stage_0 0,1, dit_stage_1 1,2"]),
        (folded((0,), (1,), (2,), (3,), (4,)), ["dit_stage_4 4"]),
        ([DECODER], ["its stages own: "]),
    ],
)
def test_what_differs_is_named_with_both_sides(holders: list[Identity], words: list[str]) -> None:
    """It would run, and its picture, or the second session, would be wrong."""
    found = "; ".join(differences(PUBLIC, holders))
    for part in words:
        assert part in found


def test_plans_of_other_weights_are_told_apart() -> None:
    """Plans' bytes differ from GPU to GPU: holders tell which files they were built from."""
    unlisted = {**STAGE_FILES, "dit-00002.safetensors": "ee" * 32}
    holders = [dataclasses.replace(stage, files=unlisted) for stage in STAGES]
    assert differences(PUBLIC, holders) == []
    files = {"dit_step.onnx": "ff" * 32, "dit-00002.safetensors": "ff" * 32}
    holders[2] = dataclasses.replace(holders[2], files=files)
    (found,) = differences(PUBLIC, holders)
    assert found.startswith("dit_stage_2 is of another export")
    assert "dit_step.onnx (sha256 ffffffffffff…, live_avatar's aaaaaaaaaaaa…)" in found
    assert "dit-00002.safetensors (sha256 ffffffffffff…, dit_stage_0's eeeeeeeeeeee…)" in found


def test_all_differences_are_told_at_once() -> None:
    """Whoever repairs a repository would start the server once for each."""
    holders = changed(1, max_sessions=1, steps=(2,), files=OTHER_WEIGHTS)
    assert len(differences(PUBLIC, holders)) == 3


def test_a_model_without_stages_has_no_steps_to_compare() -> None:
    """Text to video has none."""
    public, window = identity("rolling_forcing"), identity("dit_window")
    assert differences(public, [window]) == []


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"steps": 1}', b'{"steps": null}', b"\xff"])
def test_an_answer_that_is_no_identity_is_refused_in_words(text: bytes) -> None:
    """A holder of another version of this code."""
    with pytest.raises(ValueError, match="is no identity"):
        Identity.from_json(text)
