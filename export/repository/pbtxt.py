"""Values of config.pbtxt that say where the denoising steps stand. Standard library only."""

import re
from collections.abc import Sequence

Steps = Sequence[Sequence[int]]
"""The denoising steps of every stage, in order."""


def stage_names(steps: Steps) -> list[str]:
    return [f"dit_stage_{i}" for i in range(len(steps))]


def is_stage(model: str) -> bool:
    return model.startswith("dit_stage_")


def with_steps(model: str, text: str, steps: Steps) -> str:
    """config.pbtxt of `model` for stages that own `steps`; other models' as it is."""
    if model == "live_avatar":
        return with_parameter(text, "stages", ",".join(stage_names(steps)))
    if is_stage(model):
        owned = steps[int(model.rpartition("_")[2])]
        return with_parameter(text, "steps", ",".join(map(str, owned)))
    return text


def with_pose(model: str, text: str) -> str:
    """config.pbtxt of `model` where pose videos are taken; other models' as it is."""
    return with_parameter(text, "takes_pose", "yes") if model == "live_avatar" else text


def with_spare(model: str, text: str) -> str:
    """config.pbtxt of `model` where a stage is kept idle; other models' as it is."""
    return with_parameter(text, "spare", "yes") if model == "live_avatar" else text


def with_gpu(text: str, gpu: int) -> str:
    return _replace_one(text, r"gpus: \[ \d+ \]", f"gpus: [ {gpu} ]")


def with_parameter(text: str, key: str, value: str) -> str:
    pattern = rf'(key: "{key}" value {{ string_value: )"[^"]*"'
    return _replace_one(text, pattern, rf'\g<1>"{value}"')


def _replace_one(text: str, pattern: str, replacement: str) -> str:
    """A configuration that is written otherwise than this expects must not pass unchanged."""
    changed, count = re.subn(pattern, replacement, text)
    if count != 1:
        raise ValueError(f"configuration has {count} places like {pattern!r}, wanted one:\n{text}")
    return changed


def parse_steps(text: str, num_steps: int) -> list[list[int]]:
    """`0,1 2,3`: steps of the first stage, then of the second; "" gives each a stage of its own.
    ValueError unless every step of 0..num_steps - 1 is there once, in order."""
    wanted = list(range(num_steps))
    try:
        steps = [[int(s) for s in stage.split(",")] for stage in text.split()]
    except ValueError:
        steps = []
    steps = steps if text.strip() else [[step] for step in wanted]
    if [step for stage in steps for step in stage] != wanted:
        raise ValueError(
            f"steps are {text!r}, wanted each of 0..{num_steps - 1} once and in order, such as "
            f"{' '.join(map(str, wanted))!r} or {','.join(map(str, wanted))!r}"
        )
    return steps
