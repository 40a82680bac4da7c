"""(x @ A) @ B of rows that lie table after table: a product of one table's rows, not one of each row; and dropout."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from scoremux_engine.model.backbone import site_inputs
from scoremux_evidence.sampling import derived_key
from scoremux_export.opening.opened import Tables
from scoremux_train.training.batches import StepRow
from scoremux_train.training.shortcuts import FrozenLinear

Span = tuple[int, int]
_STEPS = 256
"""Rates are rounded to multiples of 1/256: one random byte an element."""


class RowDropout:
    """Draws masks, 0 or 1 / (1 − rate), in the same order in every forward pass.

    A row draws D bytes for each of its own tokens at each call; padding gets none.
    """

    def __init__(self, rows: Sequence[StepRow], step: int) -> None:
        keys = [derived_key(row.of.seed, row.of.name, "dropout", step, row.example.key) for row in rows]
        self._drawers = [np.random.Philox(key=key) for key in keys]
        self._dropped = [round(row.of.recipe.dropout * _STEPS) for row in rows]

    def mask(self, spans: Sequence[Span], x: Tensor) -> Tensor:
        """Return a mask for x float [M, D], float32. spans: the places of each row in x."""
        mask = np.zeros(x.shape, np.float32)
        for (start, stop), drawer, dropped in zip(spans, self._drawers, self._dropped, strict=True):
            part = mask[start:stop].reshape(-1)
            drawn = drawer.random_raw(-(-part.size // 8)).view(np.uint8)[: part.size]
            scale = np.float32(_STEPS / (_STEPS - dropped))
            np.multiply(drawn >= dropped, scale, out=part)
        return torch.from_numpy(mask)


@dataclass(frozen=True)
class RowPlaces:
    """Where the rows of a micro-batch lie.

    Attributes:
        tables: The first row of each table, and the row after its last one.
        tokens: The first token of each row and the token after its last one; empty where rows are padded.
        lengths: The number of tokens of each row.
    """

    tables: Sequence[Span] = ()
    tokens: Sequence[Span] = ()
    lengths: Sequence[int] = ()

    def spans(self, places: int) -> tuple[list[Span], list[Span]]:
        """Return the places of each table and of each row; `places` is the number of rows or of tokens."""
        count = len(self.lengths)
        if self.tokens and places > count:
            tables = [(self.tokens[first][0], self.tokens[after - 1][1]) for first, after in self.tables]
            return tables, list(self.tokens)
        each = places // count
        tables = [(first * each, after * each) for first, after in self.tables]
        starts = range(0, count * each, each)
        rows = [(start, start + min(each, length)) for start, length in zip(starts, self.lengths, strict=True)]
        return tables, rows


class SideProducts:
    """base(x) + (x @ A[group]) @ B[group] of sites, in training; x float32 [B, S, D_in], [B, D_in] or [1, N, D_in].

    Sites that were handed the same x in the last whole pass, such as query and value, are computed together. The first
    pass of a model learns who shares; it and a pass that turns out otherwise lose speed only.

    Attributes:
        places: The places of the rows in the next pass.
        dropout: Changes x before x @ A; None in passes without dropout.
    """

    def __init__(self) -> None:
        self.places = RowPlaces()
        self.dropout: RowDropout | None = None
        self._bases: dict[str, FrozenLinear] = {}
        self._siblings: dict[str, tuple[str, ...]] = {}
        self._readers: dict[int, tuple[Tensor, list[str]]] = {}
        self._ready: dict[str, tuple[Tensor, Tensor]] = {}

    def apply(self, site: str, x: Tensor, base: nn.Module, tables: Tables) -> Tensor:
        """Return the output of a site. base: a FrozenLinear."""
        self._bases[site] = cast(FrozenLinear, base)
        _, readers = self._readers.setdefault(id(x), (x, []))  # x is held, so that its id stays its own
        readers.append(site)
        made_from, y = self._ready.pop(site, (None, None))
        if y is None or made_from is not x:
            self._multiply(x, self._siblings.get(site, (site,)), tables)
            _, y = self._ready.pop(site)
        return y

    def learn(self) -> None:
        """Remember who was handed the same x in the pass that ends."""
        shared = [tuple(dict.fromkeys(readers)) for _, readers in self._readers.values()]
        self._siblings = {site: sites for sites in shared for site in sites}

    def forget(self) -> None:
        """Let go of the pass's tensors."""
        self._readers.clear()
        self._ready.clear()

    def _multiply(self, x: Tensor, sites: tuple[str, ...], tables: Tables) -> None:
        a, b = zip(*(map(tables.__getitem__, site_inputs(site)) for site in sites), strict=True)
        rows, shape = len(self.places.lengths), x.shape
        is_shared = shape[0] == 1 != rows and not self.places.tokens  # some models hand over what all rows share
        if is_shared:
            shape = torch.Size((rows, *shape[1:]))
        flat = x.expand(shape).reshape(-1, shape[-1])
        of_tables, spans = self.places.spans(len(flat))
        if is_shared:
            spans = [(row * shape[1], (row + 1) * shape[1]) for row in range(rows)]
        mask = None
        if self.dropout is not None:
            mask = self.dropout.mask(spans, flat).to(x.device)
        bases = [self._bases[site] for site in sites]
        ys = _Sites.apply(flat, mask, of_tables, bases, *a, *b)  # type: ignore[no-untyped-call]
        for site, y in zip(sites, ys, strict=True):
            self._ready[site] = x, y.view(*shape[:-1], -1)


class _Sites(torch.autograd.Function):
    """y_i = base_i(x) + ((x ∘ mask) @ A_i[table]) @ B_i[table].

    x [M, D], A_i [G, D, R_i], B_i [G, R_i, D_i], y_i [M, D_i]. Products with few columns are slow, those with few rows
    are not: those with R columns are computed as their transposes.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mask: Any, spans: Sequence[Span], bases: Sequence[FrozenLinear], *tables: Tensor
    ) -> tuple[Tensor, ...]:
        downs, ups = tables[: len(bases)], tables[len(bases) :]
        ranks = [down.shape[2] for down in downs]
        a = torch.cat([down.transpose(1, 2) for down in downs], 1)
        ys = [base.multiply(x) for base in bases]
        x = x if mask is None else x * mask
        z = x.new_empty(a.shape[1], len(x))
        for group, (start, stop) in enumerate(spans):
            torch.mm(a[group], x[start:stop].T, out=z[:, start:stop])
            parts = torch.split(z[:, start:stop], ranks)
            for y, part, up in zip(ys, parts, ups, strict=True):
                y[start:stop].addmm_(part.T, up[group])
        ctx.save_for_backward(x, mask, a, z, *ups)
        ctx.spans, ctx.bases, ctx.ranks = spans, bases, ranks
        return tuple(ys)

    @staticmethod
    def backward(ctx: Any, *dys: Tensor) -> Any:
        x, mask, a, z, *ups = ctx.saved_tensors
        dys = tuple(dy.contiguous() for dy in dys)
        da, dz = torch.empty_like(a), torch.empty_like(z)
        d_ups = [torch.empty_like(up) for up in ups]
        for group, (start, stop) in enumerate(ctx.spans):
            z_parts = torch.split(z[:, start:stop], ctx.ranks)
            dz_parts = torch.split(dz[:, start:stop], ctx.ranks)
            for dy, up, d_up, z_part, dz_part in zip(dys, ups, d_ups, z_parts, dz_parts, strict=True):
                torch.mm(up[group], dy[start:stop].T, out=dz_part)
                torch.mm(z_part, dy[start:stop], out=d_up[group])
            torch.mm(dz[:, start:stop], x[start:stop], out=da[group])
        d_downs = torch.split(da.transpose(1, 2), ctx.ranks, 2)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = _gradient_of_x(ctx.bases, dys, mask, a, dz, ctx.spans)
        return dx, None, None, None, *d_downs, *d_ups


def _gradient_of_x(
    bases: Sequence[FrozenLinear], dys: Sequence[Tensor], mask: Any, a: Tensor, dz: Tensor, spans: Sequence[Span]
) -> Tensor:
    """dx = Σ dy_i @ W_i + mask ∘ (dz @ Aᵀ)."""
    dx = bases[0].multiply_back(dys[0])
    for base, dy in zip(bases[1:], dys[1:], strict=True):
        dx = base.multiply_back(dy, dx)
    if mask is None:
        for a_of_row, (start, stop) in zip(a, spans, strict=True):
            dx[start:stop].addmm_(dz[:, start:stop].T, a_of_row)
        return dx
    side = torch.empty_like(dx)
    for a_of_row, (start, stop) in zip(a, spans, strict=True):
        torch.mm(dz[:, start:stop].T, a_of_row, out=side[start:stop])
    covered = slice(0, spans[-1][1])
    dx[covered].addcmul_(side[covered], mask[covered])
    return dx
