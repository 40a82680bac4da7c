"""How one table's trained tensors lie in one flat row: A and B of every site, then the head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from scoremux_engine.model.backbone import HeadLinear, Site, head_inputs, site_inputs, table_inputs
from scoremux_export.opening.opened import Tables


@dataclass(frozen=True)
class Part:
    """One tensor of a table: its name as the graph's input, its shape without the leading G, and where it lies."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class Layout:
    """The parts of every table of a run, padded with zeros to the largest rank and number of levels.

    The padding stays zero: it gets no gradient, as A's is multiplied by B's and the head's is masked in the loss.
    """

    def __init__(self, sites: tuple[Site, ...], head: tuple[HeadLinear, ...], rank: int, levels: int) -> None:
        self.sites, self.head, self.rank, self.levels = sites, head, rank, levels
        sizes = {"R": rank, "L_max": levels}
        inputs = table_inputs(sites, head)
        self.parts: list[Part] = []
        start = 0
        for name, shape in inputs.items():
            part = Part(name, tuple(sizes[n] if isinstance(n, str) else n for n in shape[1:]), start)
            self.parts.append(part)
            start += part.size
        self.width = start
        self.adapter_width = sum(part.size for part in self.parts if part.name.startswith(("A.", "B.")))
        self._none = {head_inputs(linear.name)[1] for linear in head if not linear.bias}
        self._ups = {site_inputs(site.name)[1] for site in sites}

    def tables(self, rows: torch.Tensor, scaling: torch.Tensor) -> Tables:
        """Return what OpenedModel reads. rows float32 [G, width]; scaling float32 [G], which is folded into B."""
        split = torch.split(rows, [part.size for part in self.parts], dim=1)
        tables = {part.name: x.view(-1, *part.shape) for part, x in zip(self.parts, split, strict=True)}
        tables |= {name: tables[name] * scaling[:, None, None] for name in self._ups}
        return tables | {name: torch.zeros_like(tables[name]) for name in self._none}

    def start(self, own: Mapping[str, Any], config: Any, rank: int, levels: int, seed: int) -> torch.Tensor:
        """Return a table float32 [width] before training, as PEFT and transformers start theirs.

        A is uniform within 1/√D_in, B zero, the last Linear normal; other Linears of the head are the model's own.

        Args:
            own: The model's own Linears of the head by name.
            config: The model's configuration.
            rank: Of the table.
            levels: Of the table.
            seed: What A and the last Linear are drawn from.
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
                weight[:, :levels] = torch.randn(linear.d_in, levels, generator=generator) * std
            else:
                module = own[linear.name]
                weight.copy_(module.weight.detach().T)
                bias.copy_(module.bias.detach() if module.bias is not None else torch.zeros(linear.d_out))
        return row

    def views(self, row: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Return the parts of one table [width] by name, as views."""
        return {part.name: row[part.start : part.start + part.size].view(part.shape) for part in self.parts}
