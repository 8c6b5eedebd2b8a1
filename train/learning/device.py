"""Where a training computes: on the processor, or on a GPU, whose steps take the lessons of many
learners at once.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Part = TypeVar("Part")


def chosen(args: argparse.Namespace) -> torch.device:
    """The device of `--device`, with PyTorch set up for it. ValueError if it is not here, or if
    several learners were asked to share it."""
    device = torch.device(args.device)
    if device.type == "cpu":
        return device
    if not torch.cuda.is_available():
        raise ValueError(f"--device {args.device}: PyTorch sees no GPU here")
    if args.threads > 1:
        raise ValueError(f"--threads {args.threads}: a GPU takes one learner with --parts instead")
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    torch.set_float32_matmul_precision("high")
    return device


def device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def moved_to(device: torch.device, item: Part) -> Part:
    """`item`, a tensor or a dataclass of such, there; a GPU goes on meanwhile."""
    if isinstance(item, Tensor):
        if device.type == "cuda" and item.device.type == "cpu":
            return item.pin_memory().to(device, non_blocking=True)
        return item.to(device)
    if not is_dataclass(item):
        return item
    return type(item)(**{f.name: moved_to(device, getattr(item, f.name)) for f in fields(item)})


def joined(parts: Sequence[Part]) -> Part:
    """One batch of several: tensors and lists one after the other, what is neither is that of the
    first."""
    first: Any = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if isinstance(first, list):
        return sum(parts[1:], first)
    if not is_dataclass(first):
        return first
    return type(first)(
        **{f.name: joined([getattr(part, f.name) for part in parts]) for f in fields(first)}
    )
