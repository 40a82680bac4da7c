"""What a scored batch shows to those who watch: the metrics and the audit log. The engine knows neither."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from scoremux_engine.scoring.batch import Batch, Texts
from scoremux_engine.scoring.outcomes import Columns

TOKENISE, TABLES, COMPUTE, POST = "tokenise", "tables", "compute", "post"
STAGES = (TOKENISE, TABLES, COMPUTE, POST)


@dataclass(frozen=True)
class Part:
    """The shape of one micro-batch: B rows padded to S = `bucket`, of G = `groups` task versions."""

    rows: int
    bucket: int
    groups: int


class Trace:
    """What happens to one batch on its way: seconds by stage, and its micro-batches.

    Micro-batches that run side by side each add their own seconds, so a stage may have more of them than passed.
    """

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._laps: list[tuple[str, float]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens within; from any thread."""
        started = time.perf_counter()
        yield
        self._laps.append((name, time.perf_counter() - started))

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each of STAGES, 0 for one that the batch skipped."""
        total = dict.fromkeys(STAGES, 0.0)
        for name, seconds in self._laps:
            total[name] += seconds
        return total


@dataclass(frozen=True)
class SeenBatch:
    """One scored batch of B rows: texts as they came, the rows as they were admitted, the answers by tensor name."""

    texts: Texts
    batch: Batch
    columns: Columns
    trace: Trace


class Observer(Protocol):
    """Sees every scored batch before its answers leave."""

    def saw(self, seen: SeenBatch) -> None:
        """Take note of a batch. An error raised here fails the batch: nobody gets its answers."""
        ...
