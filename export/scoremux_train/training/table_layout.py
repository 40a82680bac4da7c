"""How one table's trained tensors lie in one flat row: A and B of every site, then the head."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from scoremux_engine.model.backbone import HeadLinear, Site, head_inputs, site_inputs, table_inputs
from scoremux_export.opening.opened import Tables

_STEP = 0.025
"""The standard deviation of the weights of an ordered head that tell a level from the next one, before training."""
_MANY_LEVELS = 6
"""Tasks with so many levels start with an ordered head, too: they are essays, mostly, and SAF and SciEntsBank, on
which the random start was measured, have five."""


class TableLayout:
    """The parts of every table of a run, padded with zeros to the largest rank and number of levels.

    The padding stays zero: it gets no gradient, as A's is multiplied by B's and the head's is masked in the loss.
    """

    def __init__(self, sites: tuple[Site, ...], head: tuple[HeadLinear, ...], rank: int, levels: int) -> None:
        self.sites, self.head, self.rank, self.levels = sites, head, rank, levels
        free: dict[str | int, int] = {"R": rank, "L_max": levels}
        self._shapes = {
            name: tuple(int(free.get(size, size)) for size in shape[1:])
            for name, shape in table_inputs(sites, head).items()
        }
        sizes = {name: math.prod(shape) for name, shape in self._shapes.items()}
        self._sizes = list(sizes.values())
        self.width = sum(self._sizes)
        self.adapter_width = sum(size for name, size in sizes.items() if name.startswith(("A.", "B.")))

    def tables(self, rows: Tensor, scaling: Tensor) -> Tables:
        """Return the tables for OpenedModel. rows float32 [G, width]; scaling float32 [G], which is folded into B."""
        tables = self._split(rows)
        for site in self.sites:
            b = site_inputs(site.name)[1]
            tables[b] = tables[b] * scaling[:, None, None]
        for linear in self.head:
            if not linear.bias:
                bias = head_inputs(linear.name)[1]
                tables[bias] = torch.zeros_like(tables[bias])
        return tables

    def views(self, row: Tensor) -> dict[str, Tensor]:
        """Return the parts of one table [width] by name, as views."""
        return {name: part[0] for name, part in self._split(row[None]).items()}

    def _split(self, rows: Tensor) -> Tables:
        parts = zip(self._shapes.items(), torch.split(rows, self._sizes, dim=1), strict=True)
        return {name: part.view(-1, *shape) for (name, shape), part in parts}

    def start(
        self, linears: Mapping[str, Any], config: Any, rank: int, levels: int, seed: int, traits: Sequence[int] = ()
    ) -> Tensor:
        """Return a table float32 [width] before training, as PEFT and transformers start theirs.

        A is uniform within 1/√D_in, B zero, the last Linear normal; other Linears of the head are the model's own.
        The last Linear of an item, or of a task with many levels, has levels in order along one direction (one for all
        traits), so that all rows say at once what better texts have in common. With a direction for each level, essays
        end with one level for all.

        Args:
            linears: The model's own Linears of the head by name.
            seed: The seed of A and of the last Linear.
            traits: The number of levels of each trait of an item; empty for a task.
        """
        generator = torch.Generator().manual_seed(seed)
        row = torch.zeros(self.width)
        views = self.views(row)
        for site in self.sites:
            bound = site.d_in**-0.5
            a = views[site_inputs(site.name)[0]]
            a[:, :rank] = torch.empty(site.d_in, rank).uniform_(-bound, bound, generator=generator)
        for linear in self.head:
            weight, bias = (views[name] for name in head_inputs(linear.name))
            if linear.d_out is None:
                std = float(getattr(config, "initializer_range", 0.02))
                if traits or levels >= _MANY_LEVELS:
                    steps = torch.cat([torch.arange(size) - (size - 1) / 2 for size in traits or (levels,)])
                    weight[:, :levels] = torch.randn(linear.d_in, 1, generator=generator) * _STEP * steps
                else:
                    weight[:, :levels] = torch.randn(linear.d_in, levels, generator=generator) * std
            else:
                module = linears[linear.name]
                weight.copy_(module.weight.detach().T)
                bias.copy_(module.bias.detach() if module.bias is not None else torch.zeros(linear.d_out))
        return row
