"""Named rules of a text-to-video stream: what one network may be run under. They differ in integers
alone, so one set of graphs serves them all, each session under its own. A checkpoint is distilled
for one of them; the others run, at another quality."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pipeline.config.rolling import RollingConfig

_DIAGONAL: Mapping[str, Any] = {
    "schedule": "diagonal",
    "denoising_steps": (1000, 800, 600, 400, 200),
    "span_frames": 21,
    "sink_frames": 3,
    "sink_position": "adjacent",
    "clean_sees_sink": False,
}
_SEQUENTIAL: Mapping[str, Any] = {
    "schedule": "sequential",
    "denoising_steps": (1000, 750, 500, 250),
    "sink_position": "true",
    "clean_sees_sink": True,
}
_LONGLIVE = {**_SEQUENTIAL, "span_frames": 12, "sink_frames": 3, "recache": "keep_sink"}
RULES: Mapping[str, Mapping[str, Any]] = {
    "rolling_forcing": {**_DIAGONAL, "recache": "none"},
    "rolling_recache": {**_DIAGONAL, "recache": "keep_sink"},
    "self_forcing": {**_SEQUENTIAL, "span_frames": 21, "sink_frames": 0, "recache": "none"},
    "longlive": _LONGLIVE,
    "longlive_infinite": {**_LONGLIVE, "sink_position": "adjacent"},
}
"""Name -> the RollingConfig fields that make it (docs/method.md section 8).
`rolling_recache` is Rolling Forcing with LongLive's change of prompt."""
DEPLOYED = "deployed"
"""The rules of rolling.json itself, whatever they are called."""


def under_rules(config: RollingConfig, name: str) -> RollingConfig:
    """The same networks and sizes under the rules `name`; ValueError if there are none such."""
    if name == DEPLOYED:
        return config
    if name not in RULES:
        raise ValueError(f"rules are {name!r}, wanted one of {', '.join((DEPLOYED, *RULES))}")
    return dataclasses.replace(config, **RULES[name])


def served_rules(config: RollingConfig) -> dict[str, RollingConfig]:
    """Every set of rules that the graphs of `config` can run, by name: whose cache fits into its
    `cache_blocks` slots and whose spans are whole blocks."""
    served = {DEPLOYED: config}
    for name in RULES:
        try:
            rules = under_rules(config, name)
        except ValueError:
            continue
        if rules.cache_blocks <= config.cache_blocks:
            served[name] = rules
    return served
