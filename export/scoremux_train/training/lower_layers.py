"""The layers below the first site: no adapter reaches them, so each row runs through them once.

Their output depends on the text alone, as the backbone's own dropout is off.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from scoremux_engine.model.backbone import Site
from scoremux_train.training.batches import MICRO_TOKENS, Example, micro_batches, padded

_LAYER = re.compile(r"(.+?)\.(\d+)\.")


class _RecordedError(Exception):
    """Ends a pass at the last of the lower layers."""


class LowerLayers:
    """Keeps what the `count` lower layers give for each row, float32 [S, H], and replays it."""

    def __init__(self, model: nn.Module, sites: Sequence[Site]) -> None:
        places = [_LAYER.match(site.name) for site in sites]
        stacks = {place[1] for place in places if place}
        self.count = min(int(place[2]) for place in places if place) if all(places) and len(stacks) == 1 else 0
        self.states: dict[int, torch.Tensor] = {}
        self.replayed: torch.Tensor | None = None
        self.output: torch.Tensor | None = None
        for number in range(self.count):
            name = f"{stacks.copy().pop()}.{number}"
            model.set_submodule(name, _LowerLayer(model.get_submodule(name), self, last=number == self.count - 1))

    @torch.inference_mode()
    def fill(self, model: Any, rows: Iterable[Example], pad_id: int, device: str) -> None:
        """Run rows that are not kept yet through the lower layers. model: called with a batch, as forward is."""
        self.replayed = None
        missing = {row.key: row for row in rows if row.key not in self.states} if self.count else {}
        for batch in micro_batches(list(missing.values()), MICRO_TOKENS):
            with suppress(_RecordedError):
                model(**{name: x.to(device) for name, x in padded(batch, pad_id).items()})
            for row, state in zip(batch, self.output.cpu(), strict=True):  # type: ignore[union-attr]
                self.states[row.key] = state[: len(row.tokens)].clone()
            self.output = None

    def replay(self, rows: Sequence[Example], device: str, packed: int = 0) -> None:
        """Give the lower layers' output for `rows` in the next pass. packed: N of packed rows; 0: rows are padded."""
        if not self.count:
            return
        states = [self.states[row.key] for row in rows]
        if packed:
            states = [torch.cat(states)]
            states.append(states[0].new_zeros(packed - len(states[0]), states[0].shape[1]))
            self.replayed = torch.cat(states)[None].to(device)
        else:
            self.replayed = nn.utils.rnn.pad_sequence(states, batch_first=True).to(device)


class _LowerLayer(nn.Module):
    """A lower layer: computes, or hands on what is replayed."""

    def __init__(self, layer: nn.Module, kept: LowerLayers, last: bool) -> None:
        super().__init__()
        self.layer, self._kept, self._last = layer, kept, last
        self._gives_tuple = False

    def forward(self, hidden: torch.Tensor, *args: Any, **named: Any) -> Any:
        replayed = self._kept.replayed
        if replayed is not None:
            hidden = replayed if self._last else hidden
            return (hidden,) if self._gives_tuple else hidden
        output = self.layer(hidden, *args, **named)
        self._gives_tuple = isinstance(output, tuple)
        if self._last:
            self._kept.output = output[0] if self._gives_tuple else output
            raise _RecordedError
        return output

    def __getattr__(self, name: str) -> Any:
        """Some models read a layer's own attributes."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)
