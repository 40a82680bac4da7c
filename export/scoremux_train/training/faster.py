"""What makes the frozen backbone cheaper in training: bfloat16 products where they are faster, and no unread tokens."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

_WORTHWHILE = 1.3
_SAME = 1e-4
_LAST = re.compile(r"(.+\.)(\d+)\.attention\.output")


class _FrozenProduct(torch.autograd.Function):
    """y = x @ Wᵀ with both rounded to bfloat16, sums in float32; x gets a gradient, W never."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight)
        return nn.functional.linear(x.bfloat16(), weight).float()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (weight,) = ctx.saved_tensors
        return (gradients[0].bfloat16() @ weight).float(), None


class FrozenLinear(nn.Module):
    """A Linear that is not trained, with its weight kept in bfloat16; float32 in and out."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", linear.weight.detach().bfloat16())
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = _FrozenProduct.apply(x, self.weight)  # type: ignore[no-untyped-call]
        return y if self.bias is None else y + self.bias


def use_bfloat16(model: nn.Module) -> None:
    """Replace the Linears of a frozen model."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            model.set_submodule(name, FrozenLinear(module))


def bfloat16_is_faster(device: str) -> bool:
    """Measure both on a product as long as a micro-batch of a small encoder; ties go to float32."""
    linear = nn.Linear(512, 512, device=device).requires_grad_(False)
    x = torch.randn(1024, 512, device=device)
    float32, bfloat16 = _best_s(linear, x), _best_s(FrozenLinear(linear), x)
    return float32 > _WORTHWHILE * bfloat16


@torch.inference_mode()
def _best_s(layer: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> float:
    times = []
    for _ in range(20):
        began = time.perf_counter()
        float(layer(x)[0, 0])
        times.append(time.perf_counter() - began)
    return min(times)


class _FirstToken(nn.Module):
    """What follows the last attention, for the first token alone."""

    def __init__(self, after: nn.Module) -> None:
        super().__init__()
        self.after = after

    def forward(self, hidden: torch.Tensor, residual: torch.Tensor) -> Any:
        return self.after(hidden[:, :1], residual[:, :1])


def use_fused_attention(model: Any, logits: Callable[[], torch.Tensor]) -> bool:
    """Compute attention with torch's fused kernel where a model has that and its `logits` stay the same."""
    before = getattr(model.config, "_attn_implementation", None)

    def change() -> None:
        model.set_attn_implementation("sdpa")

    return _changed(logits, change, lambda: model.set_attn_implementation(before or "eager"))


def skip_unread_tokens(model: nn.Module, logits: Callable[[], torch.Tensor]) -> bool:
    """Leave out what the last layer computes after its attention for all tokens but the first, if no head reads it.

    Args:
        model: Changed in place if its layers are named as BERT's and `logits` stay the same.
        logits: Runs the model on rows of several lengths, with tables that make rows differ.

    Returns:
        Whether it was changed.
    """
    names = [(place[1], int(place[2])) for name, _ in model.named_modules() if (place := _LAST.fullmatch(name))]
    if len({stack for stack, _ in names}) != 1:
        return False
    name = "{}{}.attention.output".format(*max(names))
    after = model.get_submodule(name)
    put = model.set_submodule
    return _changed(logits, lambda: put(name, _FirstToken(after)), lambda: put(name, after))


def _changed(logits: Callable[[], torch.Tensor], change: Callable[[], None], undo: Callable[[], None]) -> bool:
    """Change a model; undo it if that fails or if the logits are others, beyond rounding."""
    before = logits()
    try:
        change()
        same = bool((logits() - before).abs().max() <= _SAME * before.abs().max())
    except (RuntimeError, IndexError, ValueError, TypeError, AttributeError):
        same = False
    if not same:
        undo()
    return same
