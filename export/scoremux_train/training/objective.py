"""What is minimised, and by which steps: targets, their loss, and AdamW for each table by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from scoremux_train.training.batches import StepRow, TrainingSet
from scoremux_train.training.table_layout import START_OUTPUTS, scale_basis

_BETAS, _EPS, WEIGHT_DECAY = (0.9, 0.999), 1e-8, 0.01
CLIP = 1.0
"""The largest norm of a gradient."""
_WARMUP = 0.1
"""The share of all steps in which learning rates rise."""


def soft_targets(target: torch.Tensor, levels: torch.Tensor, spread: torch.Tensor, width: int) -> torch.Tensor:
    """Return float32 [B, width]: 1 − spread on the level, the rest on those beside it, 0 beyond a row's own levels."""
    place = torch.arange(width)
    distance = (place - target[:, None]).abs()
    near = ((distance == 1) & (place < levels[:, None])).float()
    return (distance == 0).float() * (1 - spread[:, None]) + near * (spread / near.sum(1))[:, None]


def loss(logits: torch.Tensor, rows: Sequence[StepRow]) -> torch.Tensor:
    """Return the weighted sum of the rows' cross entropies.

    logits float32 [B, L_max], of a shared start [B, at least 2]; the sum is a scalar.
    """
    logits = _over_scales(logits, rows)
    levels = torch.tensor([row.levels for row in rows])
    weight = torch.tensor([row.weight for row in rows], device=logits.device)
    spread = torch.tensor([row.of.recipe.spread for row in rows])
    width = logits.shape[1]
    target = soft_targets(torch.tensor([row.example.level for row in rows]), levels, spread, width).to(logits.device)
    beyond = (torch.arange(width) >= levels[:, None]).to(logits.device)
    logp = torch.log_softmax(logits.masked_fill(beyond, -torch.inf), 1).masked_fill(beyond, 0.0)
    return -(weight * (target * logp).sum(1)).sum()


def _over_scales(logits: torch.Tensor, rows: Sequence[StepRow]) -> torch.Tensor:
    """Return the logits of each row's levels, float32 [B, L_max]; a shared start's outputs are over the scale."""
    if not rows[0].example.scale:
        return logits
    basis = torch.zeros(len(rows), START_OUTPUTS, logits.shape[1])
    for place, row in enumerate(rows):
        basis[place, :, : row.levels] = scale_basis(row.example.scale)
    return torch.einsum("bk,bkl->bl", logits[:, :START_OUTPUTS], basis.to(logits.device))


def learning_rate(step: int, steps: int) -> float:
    """Return the share of the largest rate at a step: up over the warm-up, then down to zero, in straight lines."""
    warm = max(1, int(steps * _WARMUP))
    return min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)))


@dataclass(frozen=True)
class Moments:
    """A table's values and AdamW's two moments, float32 [width] each: views, which a step changes in place."""

    values: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor


def descend(table: Moments, gradient: torch.Tensor, of: TrainingSet, step: int, adapter_width: int) -> None:
    """Take one step of AdamW with the gradient's norm clipped.

    Args:
        gradient: The gradient, float32 [width]; it is changed in place, too.
        of: The rows and the recipe of the table.
        step: The number of the step, from 0.
        adapter_width: The place where the head begins, which has its own learning rate.
    """
    share = learning_rate(step, of.steps)
    gradient.mul_(min(1.0, CLIP / (float(gradient.norm()) + 1e-6)))
    table.first.lerp_(gradient, 1 - _BETAS[0])
    table.second.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
    root = table.second.sqrt().div_(math.sqrt(1 - _BETAS[1] ** (step + 1))).add_(_EPS)
    for part, rate in ((slice(0, adapter_width), of.rate), (slice(adapter_width, None), of.head_rate)):
        values = table.values[part].mul_(1 - share * rate * WEIGHT_DECAY)
        values.addcdiv_(table.first[part], root[part], value=-share * rate / (1 - _BETAS[0] ** (step + 1)))
