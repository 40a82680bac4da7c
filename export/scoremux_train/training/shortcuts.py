"""What makes the frozen backbone cheaper in training and leaves its logits as they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from scoremux_train.training.packed import PackedPass

_SAME = 1e-4
_LAST = re.compile(r"(.+\.)(\d+)\.attention\.output")


class _FirstToken(nn.Module):
    """What follows the last attention, for the first token alone."""

    def __init__(self, after: nn.Module, packed: PackedPass) -> None:
        super().__init__()
        self.after, self._packed = after, packed

    def forward(self, hidden: torch.Tensor, residual: torch.Tensor) -> Any:
        packing = self._packed.packing
        if packing is not None:
            return self.after(packing.first(hidden), packing.first(residual))
        return self.after(hidden[:, :1], residual[:, :1])


def use_fused_attention(model: Any, logits: Callable[[], torch.Tensor]) -> None:
    """Compute attention with torch's fused kernel where a model has that and its `logits` stay the same."""
    before = getattr(model.config, "_attn_implementation", None) or "eager"
    change = model.set_attn_implementation
    _change_if_equal(logits, lambda: change("sdpa"), lambda: change(before))


def pack_rows(model: Any, packed: PackedPass, first_tokens_alone: bool, logits: Callable[[], torch.Tensor]) -> None:
    """Lay rows one after another where a model's attention can be told and its head reads first tokens alone."""
    before = model.config._attn_implementation
    if first_tokens_alone and before == "sdpa":
        _change_if_equal(logits, lambda: packed.attach(model), lambda: packed.detach(model, before))


def skip_unread_tokens(model: nn.Module, packed: PackedPass, logits: Callable[[], torch.Tensor]) -> bool:
    """Leave out what the last layer computes after its attention for all tokens but the first, if no head reads it.

    Args:
        model: Changed in place if its layers are named as BERT's and `logits` stay the same.
        packed: Says where first tokens are, where rows are packed.
        logits: Runs the model on rows of several lengths, with tables that make rows differ.

    Returns:
        Whether it was changed.
    """
    names = [(place[1], int(place[2])) for name, _ in model.named_modules() if (place := _LAST.fullmatch(name))]
    if len({stack for stack, _ in names}) != 1:
        return False
    name = "{}{}.attention.output".format(*max(names))
    after, put = model.get_submodule(name), model.set_submodule
    return _change_if_equal(logits, lambda: put(name, _FirstToken(after, packed)), lambda: put(name, after))


def _change_if_equal(
    logits: Callable[[], torch.Tensor], change: Callable[[], object], undo: Callable[[], object]
) -> bool:
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
