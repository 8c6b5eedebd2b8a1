"""What prompts say, and how: of the avatar's faces, and of the scenes of text to video.

Half of the prompts are captions as clips have them, the others what a user might type, down to an
empty prompt. No attribute of a character can be guessed from another one.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from networks.configs import TextEncoderConfig
from networks.presets import Preset
from pipeline.config.avatar import PipelineConfig
from pipeline.config.rolling import RollingConfig
from train.preset import SCENES
from train.scenes import scene as scenes
from train.scenes import words
from train.world.clips import identity_seed
from train.world.identity import NAMES, Identity, article, caption, clothes, identity, looks
from train.world.motion import MOODS

CHOICES: dict[str, tuple[str, ...]] = {"mood": tuple(MOODS)} | NAMES
"""What a prompt can say. What it does not say counts as one more value, the last."""
NOUNS = ("person", "man", "woman", "character", "face", "avatar")
UNSAID = {"glasses": "none", "beard": "none", "cloth_pattern": "plain"}  # has no words
CAPTION_SHARE = 0.5

Said = dict[str, str]  # attribute -> its value in the prompt; what it does not mention is missing
ANYONE = identity(0)


def character(rng: np.random.Generator) -> tuple[Identity, str]:
    drawn = {name: values[int(rng.integers(len(values)))] for name, values in CHOICES.items()}
    mood = drawn.pop("mood")
    return dataclasses.replace(ANYONE, **drawn, freckles=bool(rng.random() < 0.1)), mood


def said(who: Identity, mood: str) -> Said:
    """What the whole caption of a character says."""
    result = {"mood": mood} | {n: getattr(who, n) for n in CHOICES if n != "mood"}
    if who.cut == "bald":
        del result["hair_name"]
    if who.garment == "jacket":
        del result["cloth_pattern"]
    return {name: value for name, value in result.items() if UNSAID.get(name) != value}


def prompt(rng: np.random.Generator) -> tuple[str, Said]:
    """A caption or a short prompt, and what it says."""
    who, mood = character(rng)
    if rng.random() < CAPTION_SHARE:
        return caption(who, mood, int(rng.integers(1 << 30))), said(who, mood)
    words, all_said = _short(rng, who, mood), said(who, mood)
    text = (", " if rng.random() < 0.3 else " ").join(part for part, _ in words)
    named = {name for _, names in words for name in names}
    style = rng.random()
    text = text.lower() if style < 0.3 else text[:1].upper() + text[1:] if style < 0.6 else text
    text = text + "." if text and rng.random() < 0.3 else text
    return text, {name: value for name, value in all_said.items() if name in named}


def _short(rng: np.random.Generator, who: Identity, mood: str) -> list[tuple[str, tuple[str, ...]]]:
    """Parts of a short prompt with the attributes that each names."""
    kept = rng.random(5) < rng.uniform(0.15, 0.95)
    noun, parts = NOUNS[int(rng.integers(len(NOUNS)))], []
    if kept[0]:
        bare = rng.random() < 0.2
        parts.append((mood if bare else f"{article(mood)} {noun}", ("mood",)))
    elif kept[1:].any():
        parts.append((f"a {noun}", ()))
    if kept[1]:
        colour_only = who.cut != "bald" and rng.random() < 0.4
        hair = f"{who.hair_name} hair" if colour_only else looks(who)[0]
        parts.append((f"with {hair}", ("hair_name",) if colour_only else ("hair_name", "cut")))
    if kept[2] and (extras := looks(who)[1:]):
        parts.append(("with " + " and ".join(extras), ("glasses", "beard")))
    if kept[3]:
        names = ("garment", "cloth_name", "cloth_pattern")
        parts.append((f"wearing {clothes(who)}", names))
    if kept[4]:
        place = "wall" if rng.random() < 0.5 else "background"
        parts.append((f"in front of {article(who.wall_name)} {place}", ("wall_name",)))
    return parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """What prompts of a preset say, and how."""

    choices: Mapping[str, tuple[str, ...]]
    prompt: Callable[[np.random.Generator], tuple[str, Said]]
    dev_caption: Callable[[int], tuple[str, Said]]  # of a seed, of split "dev"
    config: PipelineConfig | RollingConfig
    text: TextEncoderConfig
    attends: bool = False  # how the lesson reads rows, see `PromptModel`


def _dev_face(seed: int) -> tuple[str, Said]:
    who, mood = identity(identity_seed(seed, "dev")), tuple(MOODS)[seed % len(MOODS)]
    return caption(who, mood, seed), said(who, mood)


def of_faces(preset: Preset) -> Language:
    return Language(choices=CHOICES, prompt=prompt, dev_caption=_dev_face, config=preset.pipeline,
                    text=preset.text)  # fmt: skip


def of_scenes() -> Language:
    """Any words together, also those that a split keeps for itself: words are no pictures."""
    assert SCENES.text is not None

    def dev_scene(seed: int) -> tuple[str, Said]:
        drawn = scenes.scene(seed, "dev").words
        return words.caption(drawn), words.said(drawn, words.parts(drawn))

    return Language(
        choices=scenes.CHOICES,
        prompt=lambda rng: words.prompt(scenes.draw_words(rng), rng),
        dev_caption=dev_scene,
        config=SCENES.stream,
        text=SCENES.text,
        attends=True,
    )
