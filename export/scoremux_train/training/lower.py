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
from scoremux_train.training.batches import Example, micro_batches_of, padded

_LAYER = re.compile(r"(.+?)\.(\d+)\.")


class _Recorded(Exception):
    """Ends a pass at the last of the lower layers."""


class LowerLayers:
    """Keeps what the `count` lower layers give for each row, float32 [S, H], and replays it."""

    def __init__(self, model: nn.Module, sites: Sequence[Site]) -> None:
        places = [_LAYER.match(site.name) for site in sites]
        stacks = {place[1] for place in places if place}
        self.count = min(int(place[2]) for place in places if place) if all(places) and len(stacks) == 1 else 0
        self._states: dict[int, torch.Tensor] = {}
        self.playing: torch.Tensor | None = None
        self.output: torch.Tensor | None = None
        for number in range(self.count):
            name = f"{stacks.copy().pop()}.{number}"
            model.set_submodule(name, _Lower(model.get_submodule(name), self, last=number == self.count - 1))

    @torch.inference_mode()
    def fill(self, model: Any, rows: Iterable[Example], pad_id: int, most_tokens: int, device: str) -> None:
        """Run rows that are not kept yet through the lower layers. model: called with a batch, as forward is."""
        missing = {row.key: row for row in rows if row.key not in self._states} if self.count else {}
        for batch in micro_batches_of(list(missing.values()), most_tokens):
            with suppress(_Recorded):
                model(**{name: x.to(device) for name, x in padded(batch, pad_id).items()})
            for row, state in zip(batch, self.output.cpu(), strict=True):  # type: ignore[union-attr]
                self._states[row.key] = state[: len(row.tokens)].clone()
            self.output = None

    def play(self, rows: Sequence[Example], device: str) -> None:
        """Give the lower layers' output for `rows` in the next pass."""
        if self.count:
            states = [self._states[row.key] for row in rows]
            self.playing = nn.utils.rnn.pad_sequence(states, batch_first=True).to(device)


class _Lower(nn.Module):
    """A lower layer: computes, or hands on what is replayed."""

    def __init__(self, layer: nn.Module, kept: LowerLayers, last: bool) -> None:
        super().__init__()
        self.layer, self._kept, self._last = layer, kept, last

    def forward(self, hidden: torch.Tensor, *args: Any, **named: Any) -> Any:
        playing = self._kept.playing
        if playing is not None:
            return self._wrapped(playing if self._last else hidden)
        output = self.layer(hidden, *args, **named)
        self._tuple = isinstance(output, tuple)
        if self._last:
            self._kept.output = output[0] if self._tuple else output
            raise _Recorded
        return output

    def _wrapped(self, hidden: torch.Tensor) -> Any:
        return (hidden,) if self._tuple else hidden

    def __getattr__(self, name: str) -> Any:
        """Some models read a layer's own attributes."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)
