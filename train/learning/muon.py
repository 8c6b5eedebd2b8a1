"""The optimiser of convolutions: momentum, made orthogonal (Muon, K. Jordan et al., 2024).

Every iterate of the polynomial iteration is P X with P a polynomial in the small Gram matrix
G = X X^T, so P alone is iterated: a quarter of the work for a convolution of 64x1728.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def orthogonal(x: Tensor) -> Tensor:
    """Replace the singular values of matrices [n, rows, columns] by values near 1."""
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
    """For parameters of two and more dimensions, seen as matrices [outputs, all the rest]."""

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
