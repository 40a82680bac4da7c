"""Figures of out-of-fold predictions: how well they agree with people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from scoremux_evidence.figures.agreement import BY_NAME
from scoremux_evidence.figures.estimates import Estimates, Figure, Figures, mean_of
from scoremux_evidence.figures.intervals import estimates
from scoremux_evidence.rows.table import Ints, Rows, own_numbers, rated
from scoremux_evidence.rows.weighing import ROUTED_BESIDE, ROUTED_ONLY, routed_beside, routed_only
from scoremux_train.run import TrainedTask

STATISTICS = ("qwk", "exact", "adjacent", "smd")


@dataclass(frozen=True)
class CrossValidated:
    """How well out-of-fold predictions of a task agree with the human levels.

    Attributes:
        rows: The number of rows behind the figures; rows without a weight are left out.
        students: The number of students who wrote them, None where no row names one.
        notes: Sentences about these rows and the machine's levels.
        figures: By title; empty without folds.
    """

    rows: int = 0
    students: int | None = None
    notes: Sequence[str] = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)

    @classmethod
    def of(cls, read: Rows, rows: Rows) -> "CrossValidated":
        """Compare predictions with human levels. read: all rows of the task; rows: those of `_predicted`."""
        if not len(rows):
            return cls()
        students = _students(rows)
        machine = np.unique(rows.machine).tolist()
        notes = [ROUTED_ONLY] if routed_only(read) else []
        if beside := int(routed_beside(read).sum()):
            notes.append(f"{beside:,} {ROUTED_BESIDE}")
        if (rows.weight != 1).any():
            notes.append("Responses weigh 1 / the probability with which they were chosen to be read.")
        if len(machine) == 1:
            why = "nothing was learned that tells responses apart."
            notes.append(f"Attention: level {machine[0]} was predicted of every response; {why}")
        figures = {BY_NAME[name].title: estimate.at(0) for name, estimate in _figures([rows]).items()}
        count = None if students is None else len(np.unique(students))
        return cls(len(rows), count, notes, figures)


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
        predicted = {task.prepared.task.id: (task.prepared.rows, _predicted(task)) for task in tasks}
        measured = [rows for _, rows in predicted.values() if len(rows)]
        means = [mean_of(figure) for figure in _figures(measured).values()] if measured else []
        return cls({name: CrossValidated.of(*rows) for name, rows in predicted.items()}, means)


def _figures(tasks: Sequence[Rows]) -> Figures:
    """Return `STATISTICS` of the rows of each task."""
    rows = Rows.joined([task.only(("level", "machine", "weight", "student")) for task in tasks])
    ratings = rated(rows.level, rows.machine, weight=rows.weight, student=_students(rows))
    place = np.repeat(np.arange(len(tasks)), [len(task) for task in tasks])
    return estimates(STATISTICS, ratings, place, len(tasks))


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
