"""What a model that holds sessions is, and whether those of a repository belong together.

A stage with another schedule, another limit or another export's weights runs, and what it gives is
wrong. So every holder tells what it is, and the public model compares. Integers and strings only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.identity.file_hashes import short

OUTPUT = "identity"
"""The holders' output, UINT8: the JSON of an `Identity`, the answer to START."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Of a holder, or of the public model that calls it."""

    model: str
    max_sessions: int
    config_file: str
    """`pipeline.json` or `rolling.json`."""
    config: dict[str, Any]
    """What stands in it, defaults included."""
    files: dict[str, str]
    """File -> sha256: of a holder those it has loaded or its plans were built from, of the public
    model all of its export."""
    steps: tuple[int, ...] | None = None
    """Denoising steps of a stage; None for others."""
    num_steps: int | None = None
    """Of the public model: how many steps its stages own together; None if it has no stages."""

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Identity:
        """ValueError if it is none, such as that of another version of this code."""
        try:
            values = json.loads(text)
            steps = values.pop("steps")
            return cls(steps=None if steps is None else tuple(steps), **values)
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ValueError(f"{text[:80]!r} is no identity: {error}") from error


def differences(public: Identity, holders: Sequence[Identity]) -> list[str]:
    """Why `holders`, in the order of their steps, can't serve `public`: sentences, none if they
    can."""
    found = [words for holder in holders for words in _unequal(public, holder)]
    found += _wrong_files(public, holders)
    if public.num_steps is not None:
        found += _wrong_steps(public.model, public.num_steps, holders)
    return found


def _unequal(public: Identity, holder: Identity) -> Iterable[str]:
    if holder.max_sessions != public.max_sessions:
        yield (
            f"{holder.model} takes max_sessions {holder.max_sessions}, {public.model} "
            f"{public.max_sessions}; they must be equal"
        )
    ours, theirs = _texts(public.config), _texts(holder.config)
    for field in sorted({*ours, *theirs}):
        if (their := theirs.get(field, "nothing")) != (our := ours.get(field, "nothing")):
            yield (
                f"{holder.model} has {field} {their} in its {holder.config_file}, {public.model} "
                f"{our} in its {public.config_file}; they must be equal"
            )


def _texts(config: dict[str, Any]) -> dict[str, str]:
    """Values as JSON writes them, where a tuple is a list and NaN equals itself."""
    return {field: json.dumps(value) for field, value in config.items()}


def _wrong_files(public: Identity, holders: Sequence[Identity]) -> Iterable[str]:
    """Files under one name that differ; those that the public model does not know must be equal
    among the holders."""
    owner = dict.fromkeys(public.files, public)
    for holder in holders:
        wrong = []
        for name, sha256 in sorted(holder.files.items()):
            other = owner.setdefault(name, holder)
            if other.files[name] != sha256:
                wrong.append(
                    f"{name} (sha256 {short(sha256)}, {other.model}'s {short(other.files[name])})"
                )
        if wrong:
            yield (
                f"{holder.model} is of another export than {public.model}: {', '.join(wrong)}; "
                "assemble the repository anew: make repository"
            )


def _wrong_steps(public: str, num_steps: int, holders: Sequence[Identity]) -> Iterable[str]:
    stages = [holder for holder in holders if holder.steps is not None]
    owned = [step for stage in stages for step in stage.steps or ()]
    if owned != list(range(num_steps)):
        each = ", ".join(f"{s.model} {','.join(map(str, s.steps or ()))}" for s in stages)
        yield (
            f"{public} has {num_steps} steps, wanted each of 0..{num_steps - 1} once and in order, "
            f"its stages own: {each}"
        )
