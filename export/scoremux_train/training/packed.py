"""Rows one after another, [1, N, H], in place of padded ones: every product is over tokens that count."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from scoremux_train.training.batches import Example

ATTENTION = "scoremux_packed"
_MULTIPLE = 32
"""N is rounded up to a multiple of it with unused tokens, so that few shapes of products occur."""

_SHORT = 24
"""The number of tokens up to which torch's own products were faster than its fused attention."""

_LONGER = 1.15
"""How much longer than the shortest the longest of the rows may be that attend side by side."""


@dataclass(frozen=True)
class Packing:
    """Where the rows of a micro-batch lie, and how they are put side by side for attention.

    Attributes:
        tokens: The place of each row's first token, and the place after its last one.
        order: The token at each place of attention, int64 [P]; the last place is unused.
        places: The place of each token, int64 [N].
        groups: Rows, length and mask ([rows, 1, 1, length], or None) of the rows that attend together.
    """

    tokens: Sequence[tuple[int, int]]
    count: int
    order: Tensor
    places: Tensor
    groups: Sequence[tuple[int, int, Tensor | None]]

    @classmethod
    def of(cls, lengths: Sequence[int], device: str) -> "Packing":
        """Return the packing of rows of these lengths."""
        ends = np.cumsum(lengths)
        starts = ends - lengths
        unused = int(ends[-1])
        count = -(-(unused + 1) // _MULTIPLE) * _MULTIPLE
        order, groups = [], []
        for rows in _alike(lengths):
            longest = lengths[rows[-1]]
            place = np.arange(longest)
            is_within = place < np.array([[lengths[row]] for row in rows])
            tokens = np.where(is_within, starts[rows][:, None] + place, unused)
            order.append(tokens.ravel())
            mask = None if is_within.all() else torch.from_numpy(is_within)[:, None, None].to(device)
            groups.append((len(rows), longest, mask))
        flat = np.append(np.concatenate(order), unused)
        places = np.full(count, len(flat) - 1)
        used = np.flatnonzero(flat != unused)
        places[flat[used]] = used
        return cls(
            tokens=list(zip(starts.tolist(), ends.tolist(), strict=True)),
            count=count,
            order=torch.from_numpy(flat).to(device),
            places=torch.from_numpy(places).to(device),
            groups=groups,
        )

    def inputs(self, rows: Sequence[Example], first_position: int, device: str) -> dict[str, Any]:
        """Return input_ids, position_ids and, where rows have them, token_type_ids: int64 [1, N]."""

        def line(columns: Sequence[Sequence[int]]) -> Tensor:
            flat = np.zeros(self.count, np.int64)
            flat[: self.tokens[-1][1]] = np.concatenate(columns)
            return torch.from_numpy(flat)[None].to(device)

        inputs: dict[str, Any] = {
            "input_ids": line([row.tokens for row in rows]),
            "attention_mask": None,
            "position_ids": line([range(first_position, first_position + len(row.tokens)) for row in rows]),
        }
        if rows[0].token_types:
            inputs["token_type_ids"] = line([row.token_types for row in rows])
        return inputs

    def first(self, hidden: Tensor) -> Tensor:
        """Return each row's first token, [B, 1, H]. hidden: [1, N, H]."""
        return hidden[0, [start for start, _ in self.tokens]].unsqueeze(1)


def _alike(lengths: Sequence[int]) -> list[list[int]]:
    """Return the rows in groups of like length, the shortest of a group first."""
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        if not groups or lengths[row] > _LONGER * lengths[groups[-1][0]] + 1:
            groups.append([])
        groups[-1].append(row)
    return groups


class PackedPass:
    """The inputs of attention in a pass.

    Attributes:
        usable: Whether a model's rows may be packed.
        packing: The places of the rows in the pass; None where they are padded.
        first_position: The place of a row's first token in the model's table of positions.
    """

    def __init__(self) -> None:
        self.usable, self.first_position = False, 0
        self.packing: Packing | None = None

    def attach(self, model: Any) -> None:
        """Let a model's attention read this object."""
        model.set_attn_implementation(ATTENTION)
        for name, module in model.named_modules():
            if hasattr(module, "layer_idx"):
                module.packed_pass = self
            # RoBERTa's table of positions starts after its padding.
            if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
                self.first_position = int(module.padding_idx) + 1
        self.usable = True

    def detach(self, model: Any, attention: str) -> None:
        """Let a model's rows be padded. attention: its implementation."""
        model.set_attn_implementation(attention)
        self.usable = False


def attend_packed(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **named: Any
) -> tuple[Tensor, None]:
    """y = softmax(query · keyᵀ · scaling) · value within each row.

    query, key, value [1, heads, N, d], y [1, N, heads, d]. Padded rows take torch's fused kernel.
    """
    packing: Packing | None = module.packed_pass.packing
    if packing is None:
        read_rows: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **named)
        return read_rows
    heads, width = query.shape[1], query.shape[3]
    lines = (x.transpose(1, 2).reshape(packing.count, heads * width) for x in (query, key, value))
    parts = [_reordered(x, packing.order, packing.places) for x in lines]
    read, start = [], 0
    for rows, length, mask in packing.groups:
        stop = start + rows * length
        q, k, v = (x[start:stop].view(rows, length, heads, width).transpose(1, 2) for x in parts)
        if length <= _SHORT:
            scores = (q * named["scaling"]) @ k.transpose(2, 3)
            y = torch.softmax(scores if mask is None else scores.masked_fill(~mask, -torch.inf), -1) @ v
        else:
            y = nn.functional.scaled_dot_product_attention(q, k, v, mask, scale=named["scaling"])
        read.append(y.transpose(1, 2).reshape(rows * length, heads * width))
        start = stop
    read.append(parts[0].new_zeros(1, heads * width))
    whole = _reordered(torch.cat(read), packing.places, packing.order)
    return whole.view(1, packing.count, heads, width), None


class _Reorder(torch.autograd.Function):
    """y = x[there]; dx = dy[back]: tokens that `there` leaves out or has twice get no gradient from y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Tensor, back: Tensor) -> Tensor:
        ctx.back = back
        return x.index_select(0, there)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0].index_select(0, ctx.back), None, None


_reordered: Any = _Reorder.apply


transformers.AttentionInterface.register(ATTENTION, attend_packed)
transformers.AttentionMaskInterface.register(ATTENTION, sdpa_mask)
