"""The opened model: its sites and its head read their adapter weights from inputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from scoremux_engine.backbone import head_inputs, site_inputs
from scoremux_export.errors import ModelError

Tables = dict[str, torch.Tensor]


@dataclass
class Inputs:
    """What a forward pass lends to the sites: `group` int64 [B], the tables by input name, and who asked for them.

    An opaque object on purpose: torch.export forbids tensors as attributes of modules.
    """

    group: torch.Tensor | None = None
    tables: Tables = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def gather(self, name: str) -> torch.Tensor:
        """Return table[group]: [B, …]."""
        if self.group is None:
            raise ModelError("an opened model runs through OpenedModel only")
        self.used.add(name)
        return torch.index_select(self.tables[name], 0, self.group)


class OpenSite(nn.Module):
    """y[b] = x[b] @ W + (x[b] @ A[group[b]]) @ B[group[b]]

    x float32 [B, S, D_in] or [B, D_in]; A [G, D_in, R]; B [G, R, D_out].
    """

    def __init__(self, name: str, base: nn.Linear, inputs: Inputs) -> None:
        super().__init__()
        self.base = base
        self._inputs = inputs
        self._name = name
        self._names = site_inputs(name)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = map(self._inputs.gather, self._names)
        if x.dim() == 2:
            return self.base(x) + ((x.unsqueeze(1) @ a) @ b).squeeze(1)  # type: ignore[no-any-return]
        if x.dim() != 3:
            raise ModelError(f"{self._name} is called with {x.dim()} dimensions; a site takes [B, S, D] or [B, D]")
        return self.base(x) + (x @ a) @ b  # type: ignore[no-any-return]

    @property
    def weight(self) -> torch.Tensor:
        """Some models look at a Linear's dtype; none may compute with it behind the site's back."""
        return self.base.weight


class OpenHeadLinear(nn.Module):
    """y[b] = x[b] @ weight[group[b]] + bias[group[b]]; x float32 [B, D_in] or [B, S, D_in]."""

    def __init__(self, name: str, inputs: Inputs) -> None:
        super().__init__()
        self._inputs = inputs
        self._names = head_inputs(name)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight, bias = map(self._inputs.gather, self._names)
        if x.dim() == 2:
            return (x.unsqueeze(1) @ weight).squeeze(1) + bias
        return x @ weight + bias.unsqueeze(1)


class OpenedModel(nn.Module):
    """logits = model(input_ids, attention_mask) with sites and head fed from `tables`, rows picking by `group`."""

    def __init__(self, model: nn.Module, sites: dict[str, nn.Linear], head: dict[str, nn.Linear]) -> None:
        super().__init__()
        self._inputs = Inputs()
        for name, linear in sites.items():
            model.set_submodule(name, OpenSite(name, linear, self._inputs))
        for name in head:
            model.set_submodule(name, OpenHeadLinear(name, self._inputs))
        self.model = model
        # The exporter restores the wrapper's own mode: a wrapper left in training mode brings dropout back.
        self.eval()

    @property
    def used(self) -> set[str]:
        """Names of the tables that the last forward pass read."""
        return set(self._inputs.used)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, group: torch.Tensor, tables: Tables
    ) -> torch.Tensor:
        """Return logits float32 [B, L]."""
        self._inputs.group, self._inputs.tables = group, tables
        self._inputs.used.clear()
        try:
            output: Any = self.model(input_ids=input_ids, attention_mask=attention_mask)
            return output.logits  # type: ignore[no-any-return]
        finally:
            self._inputs.group, self._inputs.tables = None, {}
