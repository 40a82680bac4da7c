"""What a peer is: texts and tasks in, logits out."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.saf import SafRow

Floats = npt.NDArray[np.float32]
LEVELS = 5
RANK = 8


class Peer(Protocol):
    """A loaded scorer of the 27 tasks. `pid`: the process that holds the models; its children belong to it."""

    pid: int

    def logits(self, rows: Sequence[SafRow]) -> Floats:
        """Return float32 [B, 5], in the order of the rows. Tokenising is part of it."""
        ...

    def weights_bytes(self) -> int:
        """Return the bytes of all weights that are in memory."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class PeerSpec:
    """One row of the table.

    target: `module:Class` under benchmarks.peers; options: its arguments; requirements: packages that only it needs;
    without: packages that come with those and cannot be loaded beside a torch without CUDA;
    cannot: what it cannot do; default: the setting that users run by default, not the best that we found;
    ours: not a peer at all; reference: what all others are compared with, in every run;
    rounds: at most so many timed rounds (0: as many as asked for); heavy: takes gigabytes, so that only ours is loaded
    beside it.
    """

    name: str
    target: str
    options: dict[str, Any] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    cannot: str = ""
    default: bool = False
    ours: bool = False
    reference: bool = False
    rounds: int = 0
    heavy: bool = False

    def make(self, scratch: str) -> Peer:
        """Load the peer into this process. `scratch`: a folder that all peers of a run share."""
        module, _, name = self.target.partition(":")
        peer: Peer = getattr(importlib.import_module(f"benchmarks.peers.{module}"), name)(scratch, **self.options)
        return peer
