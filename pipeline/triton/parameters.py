"""Parameters of config.pbtxt, which are text: what each may be. `ValueError` says what is wanted.

Numbers of instances are here too: all that a configuration can say and be wrong.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def whole(text: str) -> int:
    """A number of things: 1 or more."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise ValueError("wanted a whole number, 1 or more")
    return int(text)


def seconds(text: str) -> float:
    """A time that ends: more than 0, finite."""
    return _above_zero(text, "wanted a number of seconds above 0, such as 10 or 0.5")


def limit(text: str) -> float:
    """A distance that is too far: more than 0, finite."""
    return _above_zero(text, "wanted a number above 0, such as 0.25")


def whole_or_word(text: str, word: str, number: int) -> int:
    """A number of things, 0 or more, or a word for `number` of them."""
    if text.strip() == word:
        return number
    if not text.strip().isdecimal():
        raise ValueError(f"wanted a whole number, 0 or more, or {word}")
    return int(text)


def yes_or_no(text: str) -> bool:
    """An option."""
    if text.strip() not in ("yes", "no"):
        raise ValueError("wanted yes or no")
    return text.strip() == "yes"


def names(text: str) -> list[str]:
    """Models in order, `a,b,c`, each once."""
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise ValueError("wanted names with a comma between two")
    if doubled := sorted({name for name in found if found.count(name) > 1}):
        raise ValueError(f"wanted each model once, {', '.join(doubled)} is there twice")
    return found


def steps(text: str) -> list[int]:
    """Neighbouring denoising steps in order, such as `0` or `0,1`."""
    parts = [part.strip() for part in text.split(",")]
    found = [int(part) for part in parts if part.isdecimal()]
    if len(found) < len(parts) or found != list(range(found[0], found[0] + len(found))):
        raise ValueError("wanted neighbouring steps in order, such as '0' or '0,1'")
    return found


def _above_zero(text: str, wanted: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(wanted)
    return value


def check_one_instance(model: str, groups: Sequence[Mapping[str, Any]]) -> None:
    """ValueError if a model that holds sessions has not one instance by `groups`, the
    `instance_group` of its configuration; each GPU named there has one."""
    count = sum(int(g.get("count", 1)) * max(1, len(g.get("gpus", ()))) for g in groups)
    if count != 1:
        raise ValueError(
            f"{model}: instance_group has {count} instances, wanted 1: a session lives in one "
            "process"
        )
