"""What a model that holds sessions is, and whether those of a repository belong together. A stage
with another schedule, limit or export's weights runs, and what it gives is wrong; so every holder
tells what it is, and the public model compares. Integers and strings only."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.identity.file_hashes import short

OUTPUT = "identity"  # the holders' output, UINT8: the JSON of an `Identity`, the answer to START


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Of a holder, or of the public model that calls it."""

    model: str
    max_sessions: int
    config_file: str  # `pipeline.json` or `rolling.json`
    config: dict[str, Any]  # what stands in it, defaults included
    files: dict[str, str]
    """File -> sha256: of a holder those it has loaded or its plans were built from, of the public
    model all of its export."""
    steps: tuple[int, ...] | None = None  # denoising steps of a stage; None for others
    num_steps: int | None = None
    """Of the public model: how many steps its stages own together; None if it has no stages."""
    process: int | None = None
    """Of a holder: the number of its process, which the system calls pid."""

    def to_json(self) -> bytes:
        """As it travels in OUTPUT."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Identity":
        """ValueError if it is none, such as that of another version of this code."""
        try:
            values = json.loads(text)
            steps = values.pop("steps")
            return cls(steps=None if steps is None else tuple(steps), **values)
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ValueError(f"{text[:80]!r} is no identity: {error}") from error


def differences(public: Identity, holders: Sequence[Identity]) -> list[str]:
    """Why `holders`, in the order of their steps, can't serve `public`, in sentences."""
    found = [words for holder in holders for words in _unequal(public, holder)]
    return [*found, *_wrong_files(public, holders), *_wrong_steps(public, holders)]


def _unequal(public: Identity, holder: Identity) -> Iterator[str]:
    if holder.max_sessions != public.max_sessions:
        yield (
            f"{holder.model} takes max_sessions {holder.max_sessions}, {public.model} "
            f"{public.max_sessions}; they must be equal"
        )
    for field in sorted({*public.config, *holder.config}):
        # As JSON writes them, where a tuple is a list and NaN equals itself.
        our, their = (
            json.dumps(who.config[field]) if field in who.config else "nothing"
            for who in (public, holder)
        )
        if their != our:
            yield (
                f"{holder.model} has {field} {their} in its {holder.config_file}, {public.model} "
                f"{our} in its {public.config_file}; they must be equal"
            )


def _wrong_files(public: Identity, holders: Sequence[Identity]) -> Iterator[str]:
    """Files under one name that differ, also among the holders where the public model has none."""
    owner = dict.fromkeys(public.files, public)
    for holder in holders:
        others = {name: owner.setdefault(name, holder) for name in sorted(holder.files)}
        wrong = [
            f"{name} (sha256 {short(holder.files[name])}, {other.model}'s "
            f"{short(other.files[name])})"
            for name, other in others.items()
            if other.files[name] != holder.files[name]
        ]
        if wrong:
            yield (
                f"{holder.model} is of another export than {public.model}: {', '.join(wrong)}; "
                "assemble the repository anew: make repository"
            )


def _wrong_steps(public: Identity, holders: Sequence[Identity]) -> Iterator[str]:
    stages = [(holder.model, holder.steps) for holder in holders if holder.steps is not None]
    owned = [step for _, steps in stages for step in steps]
    if public.num_steps is not None and owned != list(range(public.num_steps)):
        each = ", ".join(f"{model} {','.join(map(str, steps))}" for model, steps in stages)
        yield (
            f"{public.model} has {public.num_steps} steps, wanted each of 0..{public.num_steps - 1}"
            f" once and in order, its stages own: {each}"
        )
