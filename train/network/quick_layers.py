"""Three layers whose gradients are written by hand, because on a CPU autograd's cost most.

Each equals the layer that `networks` uses; on a GPU they are PyTorch's own, attention in bfloat16.
`set_products("bfloat16")` rounds the factors of all matrix products inside the transformer; what
they are added to stays float32. A processor with AVX512-BF16 then takes 0.4 of the time.
"""

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

GELU_SLOPE, GELU_CUBE = 1.5957691216057308, 0.07135481627247
"""2 * sqrt(2 / pi), and 0.044715 times that: GELU(tanh) is x * sigmoid(slope * x + cube * x^3)."""

_products = torch.float32


def set_products(name: str) -> None:
    """For the whole process: the type of factors in matrix products, float32 or bfloat16."""
    global _products
    _products = {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    warnings.filterwarnings("ignore", "Mismatch dtype between input and weight")  # small norms


def products(device: torch.device) -> torch.autocast:
    """The context in which they have that type."""
    return torch.autocast(device.type, torch.bfloat16, enabled=_products == torch.bfloat16)


class _Attention(Function):
    """Keeps the softmax instead of computing it again; one row of the batch at a time stays in
    the processor's cache."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        shares = q.new_empty(*q.shape[:3], k.shape[2])
        attended = torch.empty_like(q)
        for i, share in enumerate(shares):
            torch.baddbmm(share, q[i], k[i].mT, beta=0, alpha=q.shape[-1] ** -0.5, out=share)
            torch.softmax(share, -1, out=share)
            torch.bmm(share, v[i], out=attended[i])
        ctx.save_for_backward(q, k, v, shares)
        return attended

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        q, k, v, shares = ctx.saved_tensors
        grad_q, grad_k, grad_v = (torch.empty_like(x) for x in (q, k, v))
        scale = q.shape[-1] ** -0.5
        raw = torch.empty_like(shares[0])
        for i, share in enumerate(shares):
            torch.bmm(share.mT, grad[i], out=grad_v[i])
            torch.bmm(grad[i], v[i].mT, out=raw)
            torch._softmax_backward_data(raw, share, -1, raw.dtype, grad_input=raw)
            torch.baddbmm(grad_q[i], raw, k[i], beta=0, alpha=scale, out=grad_q[i])
            torch.baddbmm(grad_k[i], raw.mT, q[i], beta=0, alpha=scale, out=grad_k[i])
        return grad_q, grad_k, grad_v


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention of q [B, N, L, d] over all of k, v [B, N, K, d]; scale 1/sqrt(d)."""
    if q.is_cuda:
        q, k, v = (x.bfloat16() for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).float()
    if _products == torch.bfloat16:
        return _Attention.apply(*(x.bfloat16() for x in (q, k, v)))
    if torch.is_grad_enabled():
        return _Attention.apply(q, k, v)
    return F.scaled_dot_product_attention(q, k, v)


class _RmsNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = size.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normed = x * inverse
        ctx.save_for_backward(normed, inverse, weight)
        return normed * weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        normed, inverse, weight = ctx.saved_tensors
        product = grad * normed
        grad_weight = product.flatten(0, -2).sum(0)
        along = (product @ weight).div_(normed.shape[-1]).unsqueeze(-1)
        grad_x = torch.mul(grad, weight, out=product).sub_(normed * along).mul_(inverse)
        return grad_x, grad_weight, None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis."""
    if x.is_cuda:
        return F.rms_norm(x, weight.shape, weight, eps)
    return _RmsNorm.apply(x.to(weight.dtype), weight, eps)


class _Gelu(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        share = torch.addcmul(x.new_tensor(GELU_SLOPE), x, x, value=GELU_CUBE).mul_(x).sigmoid_()
        ctx.save_for_backward(x, share)
        return x * share

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        x, share = ctx.saved_tensors
        # d(x s(u)) = s + x s (1 - s) u' with x u' = slope x + 3 cube x^3.
        rise = torch.addcmul(x.new_tensor(GELU_SLOPE), x, x, value=3 * GELU_CUBE).mul_(x)
        both = torch.addcmul(share, share, share, value=-1)
        return torch.addcmul(share, both, rise, out=both).mul_(grad)


def gelu(x: Tensor) -> Tensor:
    """GELU in its tanh form."""
    return F.gelu(x, approximate="tanh") if x.is_cuda else _Gelu.apply(x)
