"""The view of a scored batch for metrics and the audit log. The engine knows neither."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from scoremux_engine.scoring.row_plan import RowPlan, Texts

TOKENISE, TABLES, COMPUTE, POST = "tokenise", "tables", "compute", "post"
STAGES = (TOKENISE, TABLES, COMPUTE, POST)

Columns = dict[str, npt.NDArray[Any]]
"""The wire's output tensors by name."""


@dataclass(frozen=True)
class MicroBatchShape:
    """B rows padded to S = `bucket`, of G = `groups` task versions; fill: B over the most rows that it may have."""

    rows: int
    bucket: int
    groups: int
    fill: float = 1.0


class BatchTrace:
    """The trace of one request: seconds by stage, and its micro-batches.

    Micro-batches that run side by side each add their own seconds, so a stage may have more of them than passed. A
    micro-batch of several requests is noted for the first of them.

    Attributes:
        waited_s: Seconds from its arrival to the first of them; None before that.
    """

    def __init__(self, rows: int = 1) -> None:
        self.rows = rows
        self.parts: list[MicroBatchShape] = []
        self.waited_s: float | None = None
        self.batch = False
        self._laps: list[tuple[str, float]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens within; from any thread."""
        started = time.perf_counter()
        yield
        self._laps.append((name, time.perf_counter() - started))

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage, those of STAGES that are noted for it."""
        total: dict[str, float] = {}
        for name, seconds in self._laps:
            total[name] = total.get(name, 0.0) + seconds
        return total


@dataclass(frozen=True)
class ScoredBatch:
    """B scored rows, of requests that are answered together."""

    texts: Texts
    plan: RowPlan
    columns: Columns
    traces: Sequence[BatchTrace]


class Observer(Protocol):
    """Sees every scored batch before its answers leave."""

    def observe(self, batch: ScoredBatch) -> None:
        """Take note of a batch. An error raised here fails the batch: none of its answers leaves."""
