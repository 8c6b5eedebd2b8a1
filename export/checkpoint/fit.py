"""Whether a checkpoint's tensors are those of a network, judged by names and shapes alone."""

from collections.abc import Callable, Iterable
from pathlib import Path

from torch import nn

from export.checkpoint.files import Weights, open_weights
from networks.checkpoint import differences

Rename = Callable[[str], str | None]
"""A checkpoint's key to the module's name; None for a tensor that no network here uses."""


def check_fits(
    module: nn.Module, folder: Path, stem: str, rename: Rename = lambda key: key
) -> dict[str, str]:
    """The module's names with the checkpoint's keys for `<stem>` of `folder`. ValueError names
    every tensor that is missing, unexpected, mis-shaped or there twice."""
    weights = open_weights(folder, stem)
    if problems := misfits(module, weights, rename):
        raise ValueError(f"{folder}: {stem} does not fit the network; " + "; ".join(problems))
    return renamed(weights.infos, rename)


def renamed(keys: Iterable[str], rename: Rename) -> dict[str, str]:
    """Module's name -> checkpoint's key, without the tensors that are not used."""
    return {name: key for key in keys if (name := rename(key)) is not None}


def misfits(module: nn.Module, weights: Weights, rename: Rename = lambda key: key) -> list[str]:
    """One line for each tensor that is missing, unexpected, mis-shaped or there twice. `module` may
    be on the meta device or of fake tensors."""
    keys = renamed(weights.infos, rename)
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: weights.infos[key].shape for name, key in keys.items()}
    lines = [
        f"{kind}: {name}" for kind, names in differences(wanted, found).items() for name in names
    ]
    used = [key for key in weights.infos if rename(key) is not None]
    twice = [key for key in used if keys[rename(key) or ""] != key]
    return lines + [f"twice: {key} means the same as {keys[rename(key) or '']}" for key in twice]
