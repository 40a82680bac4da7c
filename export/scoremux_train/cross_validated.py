"""Figures of out-of-fold predictions: how well they agree with people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from scoremux_evidence.figures.agreement import BY_NAME
from scoremux_evidence.figures.estimates import Estimates, Figure, Figures, mean_of
from scoremux_evidence.figures.intervals import estimates
from scoremux_evidence.rows.table import Ints, Rows, own_numbers, rated
from scoremux_evidence.rows.weighing import routed_beside, routed_only
from scoremux_train.run import TrainedTask

STATISTICS = ("qwk", "exact", "adjacent", "smd")


@dataclass(frozen=True)
class CrossValidated:
    """How well out-of-fold predictions of a task agree with the human levels.

    Attributes:
        rows: The number of rows behind the figures; rows without a weight are left out.
        estimates: The figures by statistic; empty without folds.
        weighted: Whether rows weigh 1 / the probability with which they were chosen to be read.
        students: The number of students who wrote them, None where no row names one.
        only_level: The level that the machine gave throughout, None where it gave several.
        routed_only: Whether people read the rows for their route alone.
        beside: The number of routed rows left out, since the others are a sample of all responses.
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
        return {BY_NAME[name].title: estimate.at(0) for name, estimate in self.estimates.items()}

    @classmethod
    def of(cls, task: TrainedTask) -> "CrossValidated":
        """Compare predictions with human levels."""
        read = task.prepared.rows
        rows = _predicted(task)
        if not len(rows):
            return cls()
        students = _students(rows)
        machine = np.unique(rows.machine).tolist()
        return cls(
            rows=len(rows),
            estimates=_figures([rows], STATISTICS),
            weighted=bool((rows.weight != 1).any()),
            students=None if students is None else len(np.unique(students)),
            only_level=machine[0] if len(machine) == 1 else None,
            routed_only=routed_only(read),
            beside=int(routed_beside(read).sum()),
        )


@dataclass(frozen=True)
class OutOfFold:
    """The figures of the out-of-fold predictions of a run.

    Attributes:
        of_task: Agreement with people, by task.
        means: The mean of tasks for each of `STATISTICS`; empty where no task has figures.
    """

    of_task: Mapping[str, CrossValidated]
    means: Sequence[Estimates]

    @classmethod
    def of(cls, tasks: Sequence[TrainedTask]) -> "OutOfFold":
        of_task = {task.prepared.task.id: CrossValidated.of(task) for task in tasks}
        measured = [rows for task in tasks if len(rows := _predicted(task))]
        means = [mean_of(figures) for figures in _figures(measured, STATISTICS).values()] if measured else []
        return cls(of_task, means)


def _figures(tasks: Sequence[Rows], statistics: Sequence[str]) -> Figures:
    """Return statistics of the rows of each task."""
    columns = ("level", "machine", "weight", "student")
    rows = Rows.joined([task.only(columns) for task in tasks])
    ratings = rated(rows.level, rows.machine, weight=rows.weight, student=_students(rows))
    place = np.repeat(np.arange(len(tasks)), [len(task) for task in tasks])
    return estimates(statistics, ratings, place, len(tasks))


def _students(rows: Rows) -> Ints | None:
    """Return a number for who wrote each row, one of its own where that is not known; None where no row says it."""
    return own_numbers(rows.student.code) if (rows.student.code >= 0).any() else None


def _predicted(task: TrainedTask) -> Rows:
    """Return the held-out rows that stand for some, with the machine's level."""
    rows = task.prepared.rows
    has_prediction = np.array([len(shares) > 0 for shares in task.predicted], bool)
    chosen = np.flatnonzero(has_prediction & ~np.isnan(rows.weight))
    machine = [int(np.argmax(task.predicted[place])) for place in chosen.tolist()]
    return rows.where(chosen).plus(machine=np.array(machine, np.int64))
