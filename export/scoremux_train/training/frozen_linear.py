"""A Linear whose weights are never trained, laid out once for the products of both passes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class FrozenLinear(nn.Module):
    """y = x @ Wᵀ + bias for x [..., D_in].

    On the CPU, oneDNN packs W, and Wᵀ for the gradient of x; these are then the only copies, which workers share.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        weight = linear.weight.detach()
        self._packed: Any = None
        available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        if weight.device.type == "cpu" and weight.dtype == torch.float32 and available:
            pack = torch.ops.mkldnn._reorder_linear_weight
            self._packed, self._packed_back = pack(weight, None), pack(weight.T.contiguous(), None)
            # Some models look at a Linear's shape and dtype; none computes with its weights directly.
            self.weight = nn.Parameter(weight.new_zeros(1).expand(weight.shape), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        return y

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """Return x @ Wᵀ + bias, outside of autograd."""
        if self._packed is None:
            return nn.functional.linear(x, self.weight, self.bias)
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        return y

    def multiply_back(self, dy: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        """Return dy @ W + other, outside of autograd."""
        if self._packed is None:
            return dy @ self.weight if other is None else other + dy @ self.weight
        if other is None:
            dx: torch.Tensor = torch.ops.mkldnn._linear_pointwise(dy, self._packed_back, None, "none", [], "")
        else:
            dx = torch.ops.mkldnn._linear_pointwise.binary(dy, other, self._packed_back, None, "add")
        return dx

    def __deepcopy__(self, _memo: dict[int, Any]) -> FrozenLinear:
        return self


def freeze_linears(model: nn.Module) -> None:
    """Put a FrozenLinear in the place of every Linear."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, FrozenLinear(child))


class _Product(torch.autograd.Function):
    """y = x @ Wᵀ + bias; dx = dy @ W."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, linear: FrozenLinear) -> torch.Tensor:
        ctx.linear = linear
        return linear.multiply(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return ctx.linear.multiply_back(gradients[0].contiguous()), None
