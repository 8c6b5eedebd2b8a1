"""The sizes of a text-to-video stream's graphs: exactly those that its plans can ask for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from pipeline.config.rolling import RollingConfig
from pipeline.config.rules import served_rules
from pipeline.rolling.plan import Pass, RollingPlan

Range = tuple[int, int, int]
"""Smallest, most frequent and largest size of an axis."""


def pass_ranges(config: RollingConfig) -> dict[str, dict[str, Range]]:
    """Graph -> dynamic axis -> its range, under every set of rules that the graphs can run.

    The most frequent sizes are those of the last pass of a long stream, whose history no longer
    grows: under the deployed rules, or, if they never run the graph, those with the longest cache.
    """
    sizes: defaultdict[str, list[dict[str, int]]] = defaultdict(list)
    for rules in (*sorted(served_rules(config).values(), key=_cache_blocks), config):
        for each in _passes(rules):
            sizes[each.graph].append(_sizes(each, config.frames_per_block))
    return {
        graph: {
            axis: (min(s[axis] for s in found), found[-1][axis], max(s[axis] for s in found))
            for axis in found[0]
        }
        for graph, found in sizes.items()
    }


def _cache_blocks(rules: RollingConfig) -> int:
    return rules.cache_blocks


def _sizes(each: Pass, frames_per_block: int) -> dict[str, int]:
    return {
        "frames": len(each.blocks) * frames_per_block,
        "history": len(each.history),
        "stored_blocks": len(each.stored),
    }


def _passes(rules: RollingConfig) -> Iterator[Pass]:
    """Of short streams, of streams with a new prompt at every tick, and of a long one."""
    full = rules.window_blocks + 2 * rules.cache_blocks
    for num_blocks in range(1, full):
        yield from _stream(rules, RollingPlan(rules).num_ticks(num_blocks), num_blocks)
    for switch in range(full):
        yield from _stream(rules, switch + 1, switch=switch)
    yield from _stream(rules, full)


def _stream(
    rules: RollingConfig, num_ticks: int, num_blocks: int | None = None, switch: int = -1
) -> Iterator[Pass]:
    plan = RollingPlan(rules)
    for number in range(num_ticks):
        tick = (plan.switch_tick if number == switch else plan.tick)(number, num_blocks)
        yield from (tick.denoise if tick.store is None else (tick.store, *tick.denoise))
