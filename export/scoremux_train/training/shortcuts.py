"""Shortcuts that make the frozen backbone cheaper in training and leave its logits as they are."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from scoremux_train.training.packed import PackedPass

_SAME = 1e-4
"""The share of the largest logit up to which a difference counts as rounding, as in the proof against PEFT."""

Logits = Callable[[], Tensor]
"""Runs a model on rows of several lengths, with tables that make rows differ."""

_LAST = re.compile(r"(.+\.)(\d+)\.attention\.output")


class _FirstToken(nn.Module):
    """The modules behind the last attention, for the first token alone."""

    def __init__(self, after: nn.Module, packed: PackedPass) -> None:
        super().__init__()
        self.after, self._packed = after, packed

    def forward(self, hidden: Tensor, residual: Tensor) -> Any:
        packing = self._packed.packing
        if packing is not None:
            return self.after(packing.first(hidden), packing.first(residual))
        return self.after(hidden[:, :1], residual[:, :1])


def use_fused_attention(model: Any, logits: Logits) -> None:
    """Compute attention with torch's fused kernel where a model has that and its `logits` stay the same."""
    before = getattr(model.config, "_attn_implementation", None) or "eager"
    change = model.set_attn_implementation
    _change_if_equal(logits, lambda: change("sdpa"), lambda: change(before))


def pack_rows(model: Any, packed: PackedPass, first_tokens_alone: bool, logits: Logits) -> None:
    """Lay rows one after another where a model's attention can be told and its head reads first tokens alone."""
    before = model.config._attn_implementation
    if first_tokens_alone and before == "sdpa":
        _change_if_equal(logits, lambda: packed.attach(model), lambda: packed.detach(model, before))


def skip_unread_tokens(model: nn.Module, packed: PackedPass, logits: Logits) -> bool:
    """Leave out what the last layer computes after its attention for all tokens but the first, if no head reads it.

    Args:
        model: Changed in place, and True returned, if its layers are named as BERT's and `logits` stay the same.
    """
    matches = [_LAST.fullmatch(name) for name, _ in model.named_modules()]
    layers = [(match[1], int(match[2])) for match in matches if match]
    if len({stack for stack, _ in layers}) != 1:
        return False
    name = "{}{}.attention.output".format(*max(layers))
    after, put = model.get_submodule(name), model.set_submodule
    return _change_if_equal(logits, lambda: put(name, _FirstToken(after, packed)), lambda: put(name, after))


def _change_if_equal(logits: Logits, change: Callable[[], object], undo: Callable[[], object]) -> bool:
    """Change a model; undo it if that fails or if the logits differ by more than rounding."""
    before = logits()
    try:
        change()
        equal = bool((logits() - before).abs().max() <= _SAME * before.abs().max())
    except (RuntimeError, IndexError, ValueError, TypeError, AttributeError):
        equal = False
    if not equal:
        undo()
    return equal


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

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        return y

    def multiply(self, x: Tensor) -> Tensor:
        """Return x @ Wᵀ + bias, outside of autograd."""
        if self._packed is None:
            return nn.functional.linear(x, self.weight, self.bias)
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        return y

    def multiply_back(self, dy: Tensor, other: Tensor | None = None) -> Tensor:
        """Return dy @ W + other, outside of autograd."""
        product = torch.ops.mkldnn._linear_pointwise
        dx: Tensor
        if self._packed is None:
            dx = dy @ self.weight
            return dx if other is None else other + dx
        if other is None:
            dx = product(dy, self._packed_back, None, "none", [], "")
        else:
            dx = product.binary(dy, other, self._packed_back, None, "add")
        return dx

    def __deepcopy__(self, _memo: dict[int, Any]) -> "FrozenLinear":
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
    def forward(ctx: Any, x: Tensor, linear: FrozenLinear) -> Tensor:
        ctx.linear = linear
        return linear.multiply(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return ctx.linear.multiply_back(gradients[0].contiguous()), None
