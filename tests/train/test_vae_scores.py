"""The VAE's gate on reconstructions whose faults are known."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from train.evaluate.video import read_sound
from train.vae.scores import GATES, clip_scores, passes, summary
from train.world.clips import Clip, clip
from train.world.motion import Mouth, still_mouth
from train.world.render import REGIONS, render

SIZE, NUM_FRAMES, GROUP = 64, 25, 4
LATENT = (np.arange(NUM_FRAMES) + GROUP - 1) // GROUP
"""Of every frame: 0 is frame 0 alone, k frames 4k - 3 to 4k."""
Fault = Callable[[Clip], np.ndarray]


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    """Two unseen faces; the second one says the same backwards."""
    spoken = read_sound(Path(__file__).parents[2] / "examples" / "speech.flac")[4000:20000]
    return [
        clip(5 + i, NUM_FRAMES, SIZE, "dev", audio=audio, mood="neutral")
        for i, audio in enumerate((spoken, spoken[::-1]))
    ]


def figures(clips: list[Clip], *faults: Fault) -> dict[str, float]:
    """Of a reconstruction of each clip, made from it by its fault (the last one for the rest)."""
    rest = faults[-1:] * (len(clips) - len(faults))
    made = [fault(c) for c, fault in zip(clips, (*faults, *rest), strict=True)]
    return summary([clip_scores(c, frames) for c, frames in zip(clips, made, strict=True)])


def failed(clips: list[Clip], *faults: Fault) -> set[str]:
    return {name for name, passed in passes(figures(clips, *faults)).items() if not passed}


def true(of: Clip) -> np.ndarray:
    return of.frames


def added(amount: np.ndarray | float) -> Fault:
    """`amount`, which broadcasts to [T, S, S, 3], on top of the truth."""
    return lambda of: np.clip(of.frames + amount, 0, 255).round().astype(np.uint8)


def noisy(deviation: float) -> Fault:
    """The same noise in all frames: only the picture suffers, not its changes."""
    noise = np.random.default_rng(0).normal(0, deviation, (SIZE, SIZE, 3))
    return added(noise)


def blurred(of: Clip) -> np.ndarray:
    """Every pixel the mean of 7 x 7."""
    places = [(y, x) for y in range(-3, 4) for x in range(-3, 4)]
    return np.mean([np.roll(of.frames, place, (1, 2)) for place in places], 0).astype(np.uint8)


def saying(mouth: Mouth) -> Fault:
    """The truth but for the shape of the mouth."""
    return lambda of: render(of.identity, of.pose, of.expression, mouth, of.mood, SIZE).frames


def held(kept: float) -> Fault:
    """Inside latents only the part `kept` of the motion, the rest at their borders."""

    def made(of: Clip) -> np.ndarray:
        frames = of.frames.astype(np.float32)
        means = np.stack([frames[k == LATENT].mean(0) for k in LATENT])
        return (means + kept * (frames - means)).round().astype(np.uint8)

    return made


def per_frame(values: np.ndarray) -> np.ndarray:
    return values[:, None, None, None].astype(np.float32)


def test_the_gate_is_the_required_one() -> None:
    """A VAE would pass by a number that somebody has lowered."""
    assert " ".join(f"{name}{sign}{wanted}" for name, (sign, wanted) in GATES.items()) == (
        "psnr>=30.0 psnr_worst>=27.0 psnr_mouth>=29.0 opening>=0.97 width>=0.75 "
        "boundary_ratio<=1.7 static_flicker<=1.5 motion_inside>=0.75"
    )


def test_the_truth_passes_every_gate(clips: list[Clip]) -> None:
    """A gate that the truth does not pass judges nothing."""
    found = figures(clips, true)
    assert found["psnr"] == found["psnr_worst"] == found["psnr_mouth"] > 100
    assert min(found["opening"], found["opening_worst"], found["width"]) > 0.99
    assert found["boundary_ratio"] == found["motion_inside"] == found["motion_inside_along"] == 1
    assert found["static_flicker"] == found["static_flicker_inside"] == 0
    assert passes(found) == dict.fromkeys(GATES, True)


def test_psnr_is_that_of_the_error(clips: list[Clip]) -> None:
    """30 dB would mean another error than everywhere else."""
    step = np.where(np.random.default_rng(1).random((SIZE, SIZE, 3)) < 0.5, -5, 5)
    away = replace(clips[0], frames=clips[0].frames // 2 + 60)  # nothing is clipped
    found = figures([away], added(step))
    for name in ("psnr", "psnr_worst", "psnr_mouth", "psnr_eyes"):
        assert found[name] == pytest.approx(20 * math.log10(255 / 5), abs=1e-3), name


@pytest.mark.parametrize("fault", ["blur", "noise"])
def test_a_spoilt_picture_fails_psnr_and_no_measure_of_changes(
    clips: list[Clip], fault: str
) -> None:
    """A VAE would be accepted that draws no detail."""
    found = failed(clips, blurred if fault == "blur" else noisy(15))
    assert found >= {"psnr", "psnr_worst", "psnr_mouth"}
    assert not found & {"boundary_ratio", "static_flicker"}


def test_one_bad_face_fails_though_the_mean_is_good(clips: list[Clip]) -> None:
    """Faces that the VAE cannot draw would hide behind the others."""
    found = figures(clips, noisy(14), true)
    assert 24 < found["psnr_worst"] < 27
    assert passes(found)["psnr"]
    assert not passes(found)["psnr_worst"]
    assert not passes(figures(clips, true, noisy(14)))["psnr_worst"]


def test_a_wrong_mouth_region_fails_though_the_picture_is_good(clips: list[Clip]) -> None:
    """The mouth is a few pixels in a hundred: a picture's PSNR does not see it."""

    def made(of: Clip) -> np.ndarray:
        return added(12 * (of.regions == REGIONS.index("mouth"))[..., None])(of)

    found = failed(clips, made)
    assert "psnr_mouth" in found
    assert not found & {"psnr", "psnr_worst"}


def test_closed_mouths_fail_opening_and_width(clips: list[Clip]) -> None:
    """The avatar would not speak."""
    found = failed(clips, saying(still_mouth(NUM_FRAMES)))
    assert found >= {"opening", "width"}
    assert not found & {"boundary_ratio", "static_flicker"}


def test_one_mouth_that_stays_closed_fails_the_opening(clips: list[Clip]) -> None:
    """Faces whose mouths stand still would raise the mean of those that move."""
    found = figures(clips, saying(still_mouth(NUM_FRAMES)), true)
    assert not passes(found)["opening"]
    assert not found["opening_worst"] > 0.9


def test_other_words_fail_opening_and_width(clips: list[Clip]) -> None:
    """Any moving mouth would do."""
    found = figures(clips, saying(clips[1].mouth), saying(clips[0].mouth))
    assert not passes(found)["opening"]
    assert not passes(found)["width"]
    assert min(found["truth_opening"], found["truth_width"]) > 0.99


def test_a_mouth_that_opens_but_never_widens_fails_the_width_alone(clips: list[Clip]) -> None:
    """All vowels would look alike."""
    half = np.full(NUM_FRAMES, 0.5, np.float32)
    assert failed(clips, lambda of: saying(replace(of.mouth, width=half))(of)) == {"width"}


def test_flicker_at_borders_of_latents_fails_boundary_and_static_alone(
    clips: list[Clip],
) -> None:
    """What stands still would jump six times a second."""
    fault = added(per_frame(3 * (LATENT % 2)))
    assert failed(clips, fault) == {"boundary_ratio", "static_flicker"}
    found = figures(clips, fault)
    assert found["static_flicker"] == pytest.approx(3, abs=0.1)  # but for clipped pixels
    assert found["static_flicker_inside"] == 0


def test_flicker_in_every_frame_fails_static_alone(clips: list[Clip]) -> None:
    """As much flicker everywhere makes no border stand out."""
    fault = added(per_frame(3 * (np.arange(NUM_FRAMES) % 2)))
    assert failed(clips, fault) == {"static_flicker"}


def test_flicker_inside_latents_is_not_taken_for_that_at_borders(clips: list[Clip]) -> None:
    """The two figures would tell nothing about where the decoder errs."""
    inside = np.array([0, *(0, 3, 3, 0) * (NUM_FRAMES // GROUP)])  # latents begin and end alike
    found = figures(clips, added(per_frame(inside)))
    assert found["static_flicker"] == 0
    assert found["static_flicker_inside"] == pytest.approx(2, abs=0.1)
    assert found["boundary_ratio"] < 0.8


def test_a_picture_held_inside_latents_fails_the_motion(clips: list[Clip]) -> None:
    """Six pictures a second would be called a video."""
    found = figures(clips, held(0.2))
    assert found["motion_inside"] == pytest.approx(0.2, abs=0.02)
    assert found["motion_inside_along"] == pytest.approx(0.2, abs=0.02)
    assert not passes(found)["motion_inside"]
    assert passes(found)["static_flicker"]
    assert "motion_inside" not in failed(clips, held(0.9))


def test_a_picture_that_stands_still_inside_latents_is_judged(clips: list[Clip]) -> None:
    """Training would end in a traceback instead of a verdict."""
    assert {"boundary_ratio", "motion_inside"} <= failed(clips, held(0))


def test_a_figure_that_could_not_be_measured_does_not_pass() -> None:
    """Clips in which nobody speaks would pass the gate for mouths."""
    assert passes(dict.fromkeys(GATES, float("nan"))) == dict.fromkeys(GATES, False)
    limits = {name: wanted for name, (_, wanted) in GATES.items()}
    assert passes(limits) == dict.fromkeys(GATES, True)
