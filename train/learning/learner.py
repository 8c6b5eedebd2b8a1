"""What learns: networks, optimisers and their place in the data, which a run goes on from."""

import copy
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from train.learning.together import Together

Figures = dict[str, float]
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def averaged(decay: float, step: int) -> float:
    """The decay of the running average, shorter at the start."""
    return min(decay, (1 + step) / (10 + step))


def move_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    with torch.no_grad():
        of = (list(n.parameters()) for n in (average, network))
        torch._foreach_lerp_(*of, 1 - decay)


def orthogonal(x: Tensor) -> Tensor:
    """Replace the singular values of matrices X [n, rows, columns] by values near 1. Every iterate
    of the polynomial is P X with P a polynomial in the small Gram matrix X X^T, so P alone is
    iterated: a quarter of the work for a convolution of 64x1728."""
    if x.shape[1] > x.shape[2]:
        return orthogonal(x.transpose(1, 2)).transpose(1, 2)
    x = x / (x.flatten(1).norm(dim=1).view(-1, 1, 1) + 1e-12)
    gram = x @ x.transpose(1, 2)
    identity = torch.eye(x.shape[1], device=x.device).expand_as(gram)
    product = identity
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        factor = a * identity + b * gram + c * gram @ gram
        product, gram = factor @ product, factor @ gram @ factor
    return product @ x


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal (K. Jordan et al., 2024), for parameters of two and more
    dimensions, seen as matrices [outputs, all the rest]."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            same: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buffer, group["momentum"]).flatten(1)
                same[tuple(update.shape)].append((p, update))
            for (rows, columns), pairs in same.items():
                scale = group["lr"] * max(1.0, rows / columns) ** 0.5
                updates = orthogonal(torch.stack([update for _, update in pairs]))
                for (p, _), update in zip(pairs, updates, strict=True):
                    p.sub_(update.reshape(p.shape), alpha=scale)


class Learner:
    """What `state` keeps: plain values (`KEPT`, `PLACE` among them), and parts with a state."""

    PLACE: ClassVar[tuple[str, ...]] = ("step",)  # counts of steps, which the log gives
    KEPT: ClassVar[tuple[str, ...]] = ("seed", "minutes", "cpu_seconds", "rows")
    PARTS: ClassVar[tuple[str, ...]]

    def __init__(self, seed: int) -> None:
        self.seed, self.minutes, self.cpu_seconds = seed, 0.0, 0.0
        self.rows: list[Figures] = []
        """Of the log."""
        for name in self.PLACE:
            setattr(self, name, 0)

    def agree(self, progress: float) -> float:
        return progress

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*self.PLACE, *self.KEPT)} | {
            name: getattr(self, name).state_dict() for name in self.PARTS
        }

    def load(self, state: dict[str, Any]) -> None:
        for name in self.PARTS:
            getattr(self, name).load_state_dict(state[name])
        for name in (*self.PLACE, *self.KEPT):
            setattr(self, name, state[name])


class AveragedLearner(Learner):
    """One network, its running average, Muon for its matrices and Adam for the rest."""

    EMA = 0.998  # decay of the running average per step
    WARM_STEPS = 60
    PARTS = ("network", "average", "muon", "adam")
    step: int

    def __init__(
        self,
        seed: int,
        network: nn.Module,
        together: Together | None = None,
        rank: int = 0,
        rate: float = 1.0,
    ) -> None:
        """`together`: None for a learner that is alone. `rate`: times all learning rates. `network`
        learns where it is."""
        super().__init__(seed)
        self.together, self.rank, self.rate, self.network = together, rank, rate, network
        self.learned = [p for p in network.parameters() if p.requires_grad]
        self.average: Any = copy.deepcopy(network).requires_grad_(False)

    def optimise(
        self,
        matrices: tuple[Sequence[nn.Parameter], float],
        *rest: tuple[Sequence[nn.Parameter], float],
    ) -> None:
        """Muon for `matrices`, Adam for each of `rest`, with the rate at the schedule's top."""
        parameters, highest = matrices
        self.muon = Muon(parameters, highest)
        self.muon.param_groups[0]["highest"] = highest
        groups = [{"params": params, "highest": top} for params, top in rest]
        self.adam = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.0)

    def descend(self, loss: Tensor, progress: float) -> Tensor:
        """One step down at `progress` 0..1 of the schedule; returns the loss, unread."""
        self.network.zero_grad()
        loss.backward()
        if self.together is not None:
            # What has no gradient in a step is the same in all learners.
            self.together.mean([p.grad for p in self.learned if p.grad is not None], self.rank)
        nn.utils.clip_grad_norm_(self.learned, 1.0)
        rate = min(1.0, (self.step + 1) / self.WARM_STEPS) * (1 + math.cos(math.pi * progress)) / 2
        for optimiser in (self.muon, self.adam):
            for group in optimiser.param_groups:
                group["lr"] = self.rate * rate * group["highest"]
            optimiser.step()
        move_average(self.average, self.network, averaged(self.EMA, self.step))
        self.step += 1
        return loss.detach()

    def agree(self, progress: float) -> float:
        return progress if self.together is None else self.together.agree(progress, self.rank)
