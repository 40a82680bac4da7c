"""What is minimised, and by which steps: ordinal targets, their loss, and AdamW for each table by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from scoremux_train.recipe import Recipe

_BETAS, _EPS = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Aim:
    """What one row in a batch is trained towards.

    target: its level; levels: its task's number of them; weight: of its loss in its table's mini-batch.
    """

    target: int
    levels: int
    weight: float
    spread: float
    ordinal: float


def soft_targets(target: torch.Tensor, levels: torch.Tensor, spread: torch.Tensor, width: int) -> torch.Tensor:
    """Return float32 [B, width]: 1 − spread on the level, the rest on those beside it, 0 beyond a row's own levels."""
    place = torch.arange(width)
    distance = (place - target[:, None]).abs()
    near = ((distance == 1) & (place < levels[:, None])).float()
    return (distance == 0).float() * (1 - spread[:, None]) + near * (spread / near.sum(1))[:, None]


def loss(logits: torch.Tensor, aims: Sequence[Aim]) -> torch.Tensor:
    """Return the weighted sum over rows of (1 − o) · cross entropy + o · Σ_k BCE(P(level > k)), o being `ordinal`.

    Args:
        logits: float32 [B, L_max].
        aims: One for each row.

    Returns:
        A scalar.
    """
    levels = torch.tensor([aim.levels for aim in aims])
    weight = torch.tensor([aim.weight for aim in aims], device=logits.device)
    ordinal = torch.tensor([aim.ordinal for aim in aims], device=logits.device)
    spread = torch.tensor([aim.spread for aim in aims])
    width = logits.shape[1]
    target = soft_targets(torch.tensor([aim.target for aim in aims]), levels, spread, width).to(logits.device)
    beyond = (torch.arange(width) >= levels[:, None]).to(logits.device)
    logp = torch.log_softmax(logits.masked_fill(beyond, -torch.inf), 1).masked_fill(beyond, 0.0)
    entropy = -(target * logp).sum(1)
    if not ordinal.any():
        return (weight * entropy).sum()
    p = logp.exp().masked_fill(beyond, 0.0)
    above = (1 - p.cumsum(1)[:, :-1]).clamp(1e-6, 1 - 1e-6)
    wanted = (1 - target.cumsum(1)[:, :-1]).clamp(0, 1)
    each = -(wanted * above.log() + (1 - wanted) * (1 - above).log()).masked_fill(beyond[:, 1:], 0.0)
    return (weight * ((1 - ordinal) * entropy + ordinal * each.sum(1))).sum()


def class_weights(levels: Sequence[int], power: float) -> dict[int, float]:
    """Return a weight for each level that occurs: count^−power, scaled so that the rows' mean is 1."""
    counts = {level: levels.count(level) for level in set(levels)}
    raw = {level: count**-power for level, count in counts.items()}
    mean = sum(raw[level] * count for level, count in counts.items()) / len(levels)
    return {level: value / mean for level, value in raw.items()}


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Return the share of the largest rate at a step: up over the warm-up, then down to zero, in straight lines."""
    warm = max(1, int(steps * recipe.warmup))
    return min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)))


@dataclass(frozen=True)
class Moments:
    """A table's values and AdamW's two moments, float32 [width] each: views, which a step changes in place."""

    values: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor


def descend(table: Moments, gradient: torch.Tensor, recipe: Recipe, step: int, steps: int, adapter_width: int) -> None:
    """Take one step of AdamW with the gradient's norm clipped.

    Args:
        table: Changed in place.
        gradient: float32 [width].
        recipe: Rates, weight decay and clipping.
        step: From 0.
        steps: How many there are in all.
        adapter_width: Where the head begins, which has a learning rate of its own.
    """
    share = learning_rate(recipe, step, steps)
    gradient.mul_(min(1.0, recipe.clip / (float(gradient.norm()) + 1e-6)))
    table.first.lerp_(gradient, 1 - _BETAS[0])
    table.second.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
    root = table.second.sqrt().div_(math.sqrt(1 - _BETAS[1] ** (step + 1))).add_(_EPS)
    for part, rate in ((slice(0, adapter_width), recipe.lr), (slice(adapter_width, None), recipe.head_lr)):
        values = table.values[part].mul_(1 - share * rate * recipe.weight_decay)
        values.addcdiv_(table.first[part], root[part], value=-share * rate / (1 - _BETAS[0] ** (step + 1)))
