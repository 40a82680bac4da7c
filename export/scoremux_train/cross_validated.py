"""Figures of out-of-fold predictions: how well they agree with people, and how agreement grows with labelled rows.

Some folds are also trained on a quarter and on half of their rows; all three adapters of a fold predict the same rows,
those of the fold. 1 − QWK, as a mean of tasks, is taken to fall with a power of the number of rows (Hestness et al.
2017). The interval of the exponent is a jackknife over tasks, so that it includes the chance of single trainings.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from scoremux_evidence.figures.agreement import BY_NAME
from scoremux_evidence.figures.estimates import Estimates, Figure, Figures, mean_of, rounded, student_t, within
from scoremux_evidence.figures.intervals import estimates
from scoremux_evidence.rows.table import Floats, Ints, Rows, own_numbers, rated
from scoremux_evidence.rows.weighing import routed_beside, routed_only
from scoremux_evidence.verdicts.verdicts import read_criteria
from scoremux_train.run import ALL, QUARTERS, TrainedTask

STATISTICS = ("qwk", "exact", "adjacent", "smd")
LEAST_TASKS = 5
"""With fewer, growth cannot be told from the chance of single trainings: the interval of 5 has 4 degrees of freedom."""

MOST_TIMES = 10.0
"""How many times the rows of today a forecast reaches at most."""

_FEW = 10
"""A forecast of fewer rows is not shown: the QWK itself is known less well."""

_BAR = 40
"""Characters that stand for a QWK of 1."""


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
        task_rows, trained_rows: The number of the task's rows, and the mean number that adapters of folds learned.
    """

    rows: int = 0
    estimates: Figures = field(default_factory=dict)
    weighted: bool = False
    students: int | None = None
    only_level: int | None = None
    routed_only: bool = False
    beside: int = 0
    task_rows: int = 0
    trained_rows: float = 0.0

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
        folds = len(set(task.prepared.fold_of))
        return cls(
            rows=len(rows),
            estimates=_figures([rows], STATISTICS),
            weighted=bool((rows.weight != 1).any()),
            students=None if students is None else len(np.unique(students)),
            only_level=machine[0] if len(machine) == 1 else None,
            routed_only=routed_only(read),
            beside=int(routed_beside(read).sum()),
            task_rows=len(read),
            trained_rows=len(read) * (folds - 1) / folds,
        )


@dataclass(frozen=True)
class LearningCurve:
    """QWK on the same held-out rows, of adapters trained on a quarter, half and all of the other rows.

    Attributes:
        rows: For each size, the mean over tasks of the number of rows that adapters were trained on.
        mean: QWK as a mean of the tasks where it is defined for each size, with the interval of a mean of such tasks.
        tasks: The number of tasks behind `mean`.
        exponent: b of 1 − QWK = a · rows^−b; NaN with fewer tasks than `LEAST_TASKS`.
    """

    rows: tuple[float, ...]
    mean: tuple[Figure, ...]
    tasks: int
    of_task: Mapping[str, tuple[Figure, ...]]
    exponent: Figure

    @classmethod
    def of(cls, tasks: Sequence[TrainedTask]) -> "LearningCurve | None":
        """Return the curve of tasks, None if no fold was trained on a part of its rows."""
        drawn = [task for task in tasks if len(_predicted(task, least=QUARTERS[0]))]
        if not drawn:
            return None
        rows, by_size = [], []
        for quarters in QUARTERS:
            rated = [_predicted(task, quarters, QUARTERS[0]) for task in drawn]
            rows.append(float(np.mean([np.mean(task.learned[quarters]) for task in drawn])))
            by_size.append(_figures(rated, ["qwk"])["qwk"])
        kappas = np.array([estimate.value for estimate in by_size])
        kappas = np.compress(~np.isnan(kappas).any(axis=0), kappas, axis=1)
        names = [task.prepared.task.id for task in drawn]
        return cls(
            rows=tuple(rows),
            mean=tuple(map(_mean, kappas)),
            tasks=kappas.shape[1],
            of_task={name: tuple(size.at(place) for size in by_size) for place, name in enumerate(names)},
            exponent=exponent(np.array(rows), kappas),
        )

    def more_rows(self, qwk: float, trained: float, rows: float, limit: float) -> float:
        """Return about how many more rows would bring a task's QWK to a limit: 0 if none; inf if that cannot be known.

        Args:
            qwk: The QWK of the task's out-of-fold predictions.
            trained: The number of rows that the adapters of these predictions were trained on.
            rows: The number of rows that the task has.
        """
        if qwk >= limit:
            return 0.0
        if not self.exponent.low > 0 or math.isnan(qwk) or limit >= 1:
            return math.inf
        # Where growth is tiny the power is beyond every float; its logarithm is not.
        log_times = math.log((1 - qwk) / (1 - limit)) / self.exponent.value
        if log_times > math.log(MOST_TIMES * rows / trained):
            return math.inf
        return max(0.0, trained * math.exp(log_times) - rows)

    def forecast(self, tasks: Mapping[str, tuple[float, float, float]], limit: float) -> list[str]:
        """Return sentences about how many more rows tasks need. tasks: the arguments of `more_rows` by task."""
        if math.isnan(self.exponent.value):
            return [f"With fewer than {LEAST_TASKS} tasks, growth cannot be told from luck, and no forecast is made."]
        if not self.exponent.low > 0:
            return ["Whether agreement grows with more rows like these cannot be told from luck."]
        value, low, high = (1 - 2**-b for b in self.exponent)
        lines = [
            f"With twice the rows, 1 − QWK falls by about {value:.0%} ({low:.0%} – {high:.0%}), if growth goes on as "
            "it began."
        ]
        more = {task: self.more_rows(*figures, limit) for task, figures in tasks.items()}
        some = [f"{task} {_rounded(count)}" for task, count in more.items() if _FEW <= count < math.inf]
        many = [task for task, count in more.items() if count == math.inf]
        if some:
            lines.append(f"For the report's QWK of {limit:g}, about so many more rows are needed: {', '.join(some)}.")
        if many:
            lines.append(f"More than {MOST_TIMES:g} times today's rows would be needed for it: {', '.join(many)}.")
        return lines

    def plot(self, figures: Sequence[Figure]) -> list[str]:
        """Return a line with a bar for each size."""
        return [
            f"{rows:7.0f} rows  {'█' * round(max(0.0, x.value) * _BAR):{_BAR}}  {_shown(x)}"
            for rows, x in zip(self.rows, figures, strict=True)
            if not math.isnan(x.value)
        ]


@dataclass(frozen=True)
class OutOfFold:
    """The figures of the out-of-fold predictions of a run.

    Attributes:
        of_task: Agreement with people, by task.
        means: The mean of tasks for each of `STATISTICS`; empty where no task has figures.
        curve: The learning curve; None where no fold was trained on a part of its rows.
    """

    of_task: Mapping[str, CrossValidated]
    means: Sequence[Estimates]
    curve: LearningCurve | None

    @classmethod
    def of(cls, tasks: Sequence[TrainedTask]) -> "OutOfFold":
        of_task = {task.prepared.task.id: CrossValidated.of(task) for task in tasks}
        curve = LearningCurve.of(tasks)
        measured = [rows for task in tasks if len(rows := _predicted(task))]
        means = [mean_of(figures) for figures in _figures(measured, STATISTICS).values()] if measured else []
        return cls(of_task, means, curve)

    def forecast(self, tasks: Iterable[str]) -> list[str]:
        """Return sentences about how many more rows tasks need for the QWK of the report's criterion."""
        limit = next((c.at_least for c in read_criteria() if c.statistic == "qwk" and c.of == "task"), None)
        if limit is None or self.curve is None:
            return []
        figures = {}
        for name in tasks:
            of_task = self.of_task[name]
            if of_task.estimates:
                qwk = of_task.estimates["qwk"].at(0).value
                figures[name] = qwk, of_task.trained_rows, float(of_task.task_rows)
        return self.curve.forecast(figures, limit)


def exponent(rows: Floats, kappas: Floats) -> Figure:
    """Return b of mean(1 − QWK) = a · rows^−b with its 95 % interval. rows: [N]; kappas: of each task, [N, T]."""
    tasks = kappas.shape[1]
    if tasks < LEAST_TASKS:
        return Figure(math.nan, math.nan, math.nan)
    total = kappas.sum(axis=1)
    value = _slope(rows, total / tasks)
    without = np.array([_slope(rows, (total - of_task) / (tasks - 1)) for of_task in kappas.T])
    squares = float(((without - without.mean()) ** 2).sum())
    half = _student_t(tasks - 1) * math.sqrt((tasks - 1) / tasks * squares)
    return Figure(value, value - half, value + half)


def _mean(values: Floats) -> Figure:
    """Return the mean of values with its 95 % interval."""
    count = len(values)
    mean = float(values.mean()) if count else math.nan
    if count < 2:
        return Figure(mean, math.nan, math.nan)
    half = _student_t(count - 1) * float(values.std(ddof=1)) / math.sqrt(count)
    low, high = within("correlation", np.array([mean - half, mean + half])).tolist()
    return Figure(mean, low, high)


def _student_t(degrees: int) -> float:
    return float(student_t(np.array([float(degrees)]))[0])


def _slope(rows: Floats, kappas: Floats) -> float:
    lost = np.maximum(1 - kappas, 1e-6)
    return -float(np.polyfit(np.log(rows), np.log(lost), 1)[0])


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


def _predicted(task: TrainedTask, quarters: int = ALL, least: int = ALL) -> Rows:
    """Return the held-out rows that stand for some, with the machine's level.

    Args:
        quarters: How many quarters of the other rows the machine had learned.
        least: Leave out rows without a prediction of a machine that had learned so many.
    """
    rows = task.prepared.rows
    has_prediction = np.array([len(shares) > 0 for shares in task.predicted[least]], bool)
    chosen = np.flatnonzero(has_prediction & ~np.isnan(rows.weight))
    machine = [int(np.argmax(task.predicted[quarters][place])) for place in chosen.tolist()]
    return rows.where(chosen).plus(machine=np.array(machine, np.int64))


def _rounded(count: float) -> str:
    """Return a number with two digits that count."""
    step = 10 ** max(0, math.floor(math.log10(max(count, 1))) - 1)
    return f"{math.ceil(count / step) * step:,}"


def _shown(figure: Figure) -> str:
    value, low, high = map(rounded, figure)
    return value if math.isnan(figure.low) else f"{value} ({low} – {high})"
