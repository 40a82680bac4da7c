"""Batches → changes of metrics: counted here at once, published by somebody else now and then."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scoremux_client import contract
from scoremux_engine.triton import metrics
from scoremux_engine.triton.metrics import Kind, Metric
from scoremux_engine.triton.task_labels import TaskLabels

if TYPE_CHECKING:
    from scoremux_engine.bank.bank import BankStats
    from scoremux_engine.scoring.observer import SeenBatch

Series = tuple[Metric, tuple[str, ...]]
"""A metric and its labels' values."""

_BY_TASK = {
    metrics.ROWS: contract.STATUS.name,
    metrics.ROUTES: contract.ROUTE.name,
    metrics.CONDITIONS: contract.CONDITION.name,
}
"""Metric that counts rows by task and value → the answer's tensor that has the value; empty ones do not count."""


@dataclass
class Changes:
    """What happened since the last look. added: growth of counters; set: values of gauges; observed: of histograms."""

    added: Counter[Series] = field(default_factory=Counter)
    set: dict[Series, float] = field(default_factory=dict)
    observed: list[tuple[Series, float]] = field(default_factory=list)


class Recorder:
    """An `Observer` that counts. Its work per batch is a few dictionary entries; any thread may take the changes."""

    def __init__(self, labels: TaskLabels) -> None:
        self._labels = labels
        self._lock = threading.Lock()
        self._changes = Changes()
        self._bank: dict[Series, float] = {}

    def saw(self, seen: SeenBatch) -> None:
        """Count a scored batch."""
        labels = [self._labels.of(task) for task in seen.batch.tasks]
        counts: Counter[Series] = Counter()
        for metric, column in _BY_TASK.items():
            values = [value.decode() for value in seen.columns[column][:, 0]]
            rows = zip(labels, values, strict=True)
            counts.update((metric, labelled) for labelled in rows if labelled[1])
        truncated = int(seen.columns[contract.TRUNCATED.name].sum())
        tokens = int(seen.columns[contract.TOKENS.name].sum())
        with self._lock:
            self._changes.added.update(counts)
            self._changes.added[metrics.TOKENS, ()] += tokens
            self._changes.added[metrics.TRUNCATED_ROWS, ()] += truncated
            self._observe(metrics.BATCH_ROWS, len(labels))
            for part in seen.trace.parts:
                self._changes.added[metrics.PADDED_TOKENS, ()] += part.rows * part.bucket
                self._observe(metrics.MICRO_BATCH_ROWS, part.rows)
                self._observe(metrics.MICRO_BATCH_GROUPS, part.groups)
            for stage, seconds in seen.trace.seconds.items():
                self._observe(metrics.STAGE_SECONDS, seconds, stage)

    def add(self, metric: Metric, count: int = 1) -> None:
        """Let a counter without labels grow."""
        with self._lock:
            self._changes.added[metric, ()] += count

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Give a gauge its value."""
        with self._lock:
            self._changes.set[metric, labels] = value

    def set_bank(self, stats: BankStats) -> None:
        """Take over what the bank says of itself, as far as it is new."""
        with self._lock:
            for metric, value in metrics.of_bank(stats):
                series = metric, ()
                before = self._bank.get(series)
                if value == before:
                    continue
                if metric.kind is Kind.COUNTER:
                    self._changes.added[series] += int(value - (before or 0))
                else:
                    self._changes.set[series] = value
                self._bank[series] = value

    def take(self) -> Changes:
        """Return what happened since the last call."""
        with self._lock:
            taken, self._changes = self._changes, Changes()
        return taken

    def _observe(self, metric: Metric, value: float, *labels: str) -> None:
        self._changes.observed.append(((metric, labels), value))
