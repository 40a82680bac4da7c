"""How well out-of-fold predictions of one task agree with people."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from scoremux_assess.labels.ratings import Ratings
from scoremux_assess.labels.weights import routed_beside, routed_only
from scoremux_assess.statistics.agreement import BY_NAME
from scoremux_assess.statistics.estimates import Figure, Figures
from scoremux_assess.statistics.intervals import estimates
from scoremux_train.run import TrainedTask

STATISTICS = ("qwk", "exact", "adjacent", "smd")


@dataclass(frozen=True)
class CrossValidated:
    """How well out-of-fold predictions of a task agree with the human levels.

    Attributes:
        rows: How many rows the figures rest on; those that stand for no others are left out.
        estimates: By statistic; empty without folds.
        weighted: Whether rows weigh 1 / the probability with which they were chosen to be read.
        students: How many wrote them, None where no row says it.
        only_level: The level that the machine gave throughout, None where it gave several.
        routed_only: Whether only their route chose the rows.
        beside: How many routed rows are left out, since the others are a sample of all responses.
    """

    rows: int = 0
    estimates: Figures = field(default_factory=dict)
    weighted: bool = False
    students: int | None = None
    only_level: int | None = None
    routed_only: bool = False
    beside: int = 0

    @property
    def figures(self) -> dict[str, Figure]:
        """Return the figures by title."""
        return {BY_NAME[name].title: estimate.at(0) for name, estimate in self.estimates.items()}

    @classmethod
    def of(cls, task: TrainedTask) -> CrossValidated:
        """Compare predictions with human levels."""
        pairs = [
            (row, int(np.argmax(p)))
            for row, p in zip(task.prepared.rows, task.predicted, strict=True)
            if len(p) and not math.isnan(row.weight)
        ]
        if not pairs:
            return cls()
        rows, machine = zip(*pairs, strict=True)
        writers = [f"unknown {n}" if row.student is None else f"student {row.student}" for n, row in enumerate(rows)]
        students = np.unique(writers, return_inverse=True)[1] if any(row.student is not None for row in rows) else None
        statistics = [BY_NAME[name] for name in STATISTICS]
        weight = np.array([row.weight for row in rows])
        ratings = Ratings.of([row.level for row in rows], machine, weight=weight)
        return cls(
            len(rows),
            estimates(statistics, ratings, np.zeros(len(rows), np.int64), 1, students),
            bool((weight != 1).any()),
            None if students is None else len(set(writers)),
            machine[0] if len(set(machine)) == 1 else None,
            routed_only([row.chosen_by for row in task.prepared.rows]),
            int(routed_beside(*zip(*((row.chosen_by, row.version) for row in task.prepared.rows), strict=True)).sum()),
        )
