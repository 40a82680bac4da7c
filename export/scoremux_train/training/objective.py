"""The objective and its steps: targets, their loss, and AdamW for each table by itself."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from scoremux_train.training.batches import StepRow, TrainingSet
from scoremux_train.training.checkpoint import TrainingState

_BETAS, _EPS, WEIGHT_DECAY = (0.9, 0.999), 1e-8, 0.01
CLIP = 1.0
"""The largest norm of a gradient."""
_WARMUP = 0.1
"""The share of all steps in which learning rates rise."""


def soft_targets(target: Tensor, levels: Tensor, spread: Tensor, width: int) -> Tensor:
    """Return float32 [B, width]: 1 − spread on the level, the rest on those beside it, 0 beyond a row's own levels."""
    place = torch.arange(width)
    distance = (place - target[:, None]).abs()
    is_own = place < levels[:, None]
    beside = ((distance == 1) & is_own).float()
    share = spread / beside.sum(1)
    on_level = (distance == 0).float() * (1 - spread[:, None])
    return on_level + beside * share[:, None]


def window_means(logits: Tensor, rows: Sequence[StepRow]) -> Tensor:
    """mean[b] = Σ w[i] · logits[i] / Σ w[i] over the windows i of row b, with w the tokens that a window adds.

    logits float32 [N, L_max] of all windows of the rows, in order; the means are float32 [B, L_max]. A row without
    windows keeps its logits.
    """
    if not any(row.example.windows for row in rows):
        return logits
    owner, shares = [], []
    for place, row in enumerate(rows):
        adds = [max(1, part.adds) for part in row.example.parts]
        owner += [place] * len(adds)
        shares += [count / sum(adds) for count in adds]
    weighted = logits * torch.tensor(shares, device=logits.device)[:, None]
    means = logits.new_zeros(len(rows), logits.shape[1])
    return means.index_add(0, torch.tensor(owner, device=logits.device), weighted)


def loss(logits: Tensor, rows: Sequence[StepRow]) -> Tensor:
    """Return the weighted sum of the rows' cross entropies; of an item, the mean of those of its traits.

    logits float32 [B, L_max]; the sum is a scalar.
    """
    device = logits.device
    targets = [(place, row, *target) for place, row in enumerate(rows) for target in row.targets]
    if not targets:  # rows of items without a level
        return (logits * 0).sum()
    if any(row.of.traits for row in rows):
        width = max(size for _, _, _, size, _, _ in targets)
        first = torch.tensor([first for _, _, first, *_ in targets])
        columns = (first[:, None] + torch.arange(width)).clamp(max=logits.shape[1] - 1)
        place = torch.tensor([place for place, *_ in targets])
        logits = logits[place.to(device)[:, None], columns.to(device)]
    width = logits.shape[1]
    level = torch.tensor([level for *_, level, _ in targets])
    levels = torch.tensor([size for _, _, _, size, _, _ in targets])
    spread = torch.tensor([row.of.recipe.spread for _, row, *_ in targets])
    weight = torch.tensor([weight for *_, weight in targets], device=device)
    target = soft_targets(level, levels, spread, width)
    for n, (_, row, *_) in enumerate(targets):
        if row.example.shares:
            target[n, : len(row.example.shares)] = torch.tensor(row.example.shares)
    target = target.to(device)
    beyond = (torch.arange(width) >= levels[:, None]).to(device)
    own_logits = logits.masked_fill(beyond, -torch.inf)
    logp = torch.log_softmax(own_logits, 1).masked_fill(beyond, 0.0)
    return -(weight * (target * logp).sum(1)).sum()


def learning_rate(step: int, steps: int) -> float:
    """Return the share of the largest rate at a step: up over the warm-up, then down to zero, in straight lines."""
    warm = max(1, int(steps * _WARMUP))
    return min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)))


def descend(state: TrainingState, table: int, gradient: Tensor, of: TrainingSet, adapter_width: int) -> None:
    """Take one step of AdamW for a table of the state, in place, with the gradient's norm clipped.

    Args:
        gradient: The gradient, float32 [width]; it is changed, too.
        of: The rows and the recipe of the table.
        adapter_width: The place where the head begins, which has its own learning rate.
    """
    beta, beta_of_squares = _BETAS
    first, second = state.first[table], state.second[table]
    norm = float(gradient.norm())
    gradient.mul_(min(1.0, CLIP / (norm + 1e-6)))
    first.lerp_(gradient, 1 - beta)
    second.mul_(beta_of_squares)
    second.addcmul_(gradient, gradient, value=1 - beta_of_squares)
    bias = 1 - beta ** (state.step + 1)
    bias_of_squares = 1 - beta_of_squares ** (state.step + 1)
    root = second.sqrt().div_(math.sqrt(bias_of_squares)).add_(_EPS)
    share = learning_rate(state.step, of.steps)
    adapter, head = slice(0, adapter_width), slice(adapter_width, None)
    for part, largest in ((adapter, of.rate), (head, of.head_rate)):
        rate = share * largest
        values = state.values[table, part]
        values.mul_(1 - rate * WEIGHT_DECAY)
        values.addcdiv_(first[part], root[part], value=-rate / bias)
