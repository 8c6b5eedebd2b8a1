"""Who speaks in a video: the files that `--audio`, or every `--actor`, names."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from live_avatar_client.actors import side_by_side
from live_avatar_client.command.arguments import checked_text
from live_avatar_client.files import shown
from live_avatar_client.protocol import SAMPLE_RATE, Array
from live_avatar_client.sound.audio import audio_seconds, begun, read_audio


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Their sounds, and of several their masks."""

    sounds: tuple[Path, ...]
    masks: tuple[Path, ...] | None = None

    @classmethod
    def of(cls, audio: Path | None, actors: list[str]) -> "Cast":
        """ValueError unless there is `audio`, or AUDIO:MASK of two actors or more."""
        if (audio is None) == (not actors):
            raise ValueError("say who speaks: either --audio FILE, or --actor AUDIO:MASK for each")
        if audio is not None:
            return cls(sounds=(audio,))
        pairs = []
        for given in actors:
            checked_text("--actor", given)
            sound, _, mask = given.rpartition(":")
            if not sound or not mask:
                raise ValueError(f"--actor is '{shown(given)}', expected AUDIO:MASK, two files")
            pairs.append((Path(sound), Path(mask)))
        if len(pairs) < 2:
            raise ValueError("--actor came once; one who speaks alone needs --audio and no mask")
        sounds, masks = zip(*pairs, strict=True)
        return cls(sounds=sounds, masks=masks)

    @property
    def sources(self) -> list[tuple[str, Path]]:
        """What each file is, and the file."""
        masks = [("mask", mask) for mask in self.masks or ()]
        return [*(("audio", sound) for sound in self.sounds), *masks]

    @property
    def sound_track(self) -> dict[str, Any]:
        """What a `VideoWriter` is told: one sound is copied, several are written as they mix."""
        return {"audio_path": self.sounds[0]} if self.masks is None else {"sound_rate": SAMPLE_RATE}

    def seconds(self) -> float | None:
        """Of the longest sound, where the files state theirs."""
        lengths = [audio_seconds(sound) for sound in self.sounds]
        return None if None in lengths else max(filter(None, lengths), default=0.0)

    def chunks(self, chunk_ms: float) -> Iterator[Array]:
        """Sound as a session takes it; what can't be read is told right here."""
        voices = [begun(read_audio(sound, chunk_ms=chunk_ms)) for sound in self.sounds]
        return voices[0] if self.masks is None else side_by_side(voices)


def as_int16(sound: Array) -> Array:
    """float32 [samples] in [-1, 1] as a `VideoWriter` takes them."""
    samples: Array = (sound.clip(-1, 1) * 32767).astype(np.int16)
    return samples
