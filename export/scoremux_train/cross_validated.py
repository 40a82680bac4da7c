"""Figures of out-of-fold predictions: how well they agree with people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from scoremux_evidence.figures.agreement import BY_NAME
from scoremux_evidence.figures.estimates import Estimates, Figures, mean_of
from scoremux_evidence.figures.intervals import estimates_of_tasks
from scoremux_evidence.rows.table import Rows, own_numbers
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
    figures: Figures = field(default_factory=dict)

    @classmethod
    def of(cls, read: Rows, rows: Rows) -> "CrossValidated":
        """Compare predictions with human levels. read: all rows of the task; rows: those of `_predicted`."""
        if not len(rows):
            return cls()
        machine = np.unique(rows.machine).tolist()
        notes = [ROUTED_ONLY] if routed_only(read) else []
        if beside := int(routed_beside(read).sum()):
            notes.append(f"{beside:,} {ROUTED_BESIDE}")
        if (rows.weight != 1).any():
            notes.append("Responses weigh 1 / the probability with which they were chosen to be read.")
        if len(machine) == 1:
            why = "nothing was learned that tells responses apart."
            notes.append(f"Attention: level {machine[0]} was predicted of every response; {why}")
        found = estimates_of_tasks(STATISTICS, [rows])
        figures = {BY_NAME[name].title: estimate for name, estimate in found.items()}
        students = len(np.unique(own_numbers(rows.student))) if (rows.student >= 0).any() else None
        return cls(len(rows), students, notes, figures)


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
        means = [mean_of(figure) for figure in estimates_of_tasks(STATISTICS, measured).values()] if measured else []
        return cls({name: CrossValidated.of(*rows) for name, rows in predicted.items()}, means)


def _predicted(task: TrainedTask) -> Rows:
    """Return the held-out rows that stand for some, with the machine's level."""
    rows = task.prepared.rows
    has_prediction = np.array([len(shares) > 0 for shares in task.predicted], bool)
    chosen = np.flatnonzero(has_prediction & ~np.isnan(rows.weight))
    machine = [int(np.argmax(task.predicted[place])) for place in chosen.tolist()]
    rows = rows.where(chosen)
    return rows.plus(human=rows.level, machine=np.array(machine, np.int64), student=rows.student.code)
