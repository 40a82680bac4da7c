"""The data check: the flaws that a person should know of labelled responses before training on them."""

import math
import operator
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from scoremux_engine.packages.task import Task
from scoremux_evidence.figures.agreement import qwk
from scoremux_evidence.rows.labelled_row import LabelledRow
from scoremux_evidence.rows.weights import ROUTED_ONLY, routed_only
from scoremux_files.rows.readers import same_text
from scoremux_files.terminal import print_table
from scoremux_train.data import Data, TrainingRows

LEAST_ROWS = 20
"""Fewest rows that a task is trained on."""

_BAD_SHOWN = 20


@dataclass(frozen=True)
class TaskCheck:
    """The counts of the check for one task, over the rows to train on.

    Attributes:
        held_out: Rows whose split is not one of `TRAINING`.
        doubly: Rows with the level of a second person.
        human_qwk: Agreement of the two people on these rows, as is human_exact.
        duplicates: Rows whose text an earlier row has.
        conflicts: Texts that have two levels or more.
        left_out: Rows with the text of a row that is held out.
        needed: The number of rows that are missing for training.
        rare: Levels that occur, but with fewer students or distinct texts than there are folds.
        routed_only: Whether people read these rows for their route alone, see `scoremux_evidence.rows.weights`.
    """

    task: str
    rows: int
    held_out: int
    levels: list[int]
    doubly: int
    human_qwk: float | None
    human_exact: float | None
    empty: int
    duplicates: int
    conflicts: int
    left_out: int
    needed: int
    rare: list[int]
    question: bool
    routed_only: bool

    @property
    def without_rows(self) -> list[int]:
        return [level for level, count in enumerate(self.levels) if not count]

    @property
    def trainable(self) -> bool:
        return not self.needed and sum(map(bool, self.levels)) >= 2


def check(
    data: Data,
    folds: int,
    least: int = LEAST_ROWS,
) -> list[TaskCheck]:
    """Check every task.

    Args:
        folds: A task needs twice as many different texts, and students where rows name them.
        least: The number of different texts that a task needs in any case.
    """
    return [
        _check(
            data.tasks[name],
            rows,
            data.training[name],
            folds,
            least,
        )
        for name, rows in data.rows.items()
    ]


def _check(
    task: Task,
    rows: Sequence[LabelledRow],
    training: TrainingRows,
    folds: int,
    least: int,
) -> TaskCheck:
    used, groups = training
    levels_of = defaultdict(set)
    for row in used:
        levels_of[same_text(row.response)].add(row.level)
    pairs = [(row.level, row.second) for row in used if row.second is not None]
    first, second = zip(*pairs, strict=True) if pairs else ((), ())
    human_qwk = qwk(first, second) if pairs else math.nan
    counts = Counter(row.level for row in used)
    apart = Counter(level for level, _ in {(row.level, group) for row, group in zip(used, groups, strict=True)})
    trained = sum(row.trained for row in rows)
    return TaskCheck(
        task=task.id,
        rows=len(used),
        held_out=len(rows) - trained,
        levels=[counts[level] for level in range(len(task.levels))],
        doubly=len(pairs),
        human_qwk=None if math.isnan(human_qwk) else human_qwk,
        human_exact=sum(map(operator.eq, first, second)) / len(pairs) if pairs else None,
        empty=sum(not row.response.strip() for row in used),
        duplicates=len(used) - len(levels_of),
        conflicts=sum(len(levels) > 1 for levels in levels_of.values()),
        left_out=trained - len(used),
        needed=max(0, least - len(levels_of), 2 * folds - len(set(groups))),
        rare=[level for level in range(len(task.levels)) if 0 < apart[level] < folds],
        question=bool(task.question),
        routed_only=routed_only([row.chosen_by for row in used]),
    )


def as_json(data: Data, checks: Sequence[TaskCheck]) -> dict[str, Any]:
    tasks = [
        {
            **asdict(check),
            "levels_without_rows": check.without_rows,
            "trainable": check.trainable,
        }
        for check in checks
    ]
    return {"tasks": tasks, "bad_rows": [asdict(bad) for bad in data.bad]}


def print_checks(console: Console, checks: Sequence[TaskCheck]) -> None:
    columns = ("task", "rows", "by level", "human QWK", "empty", "duplicates", "conflicts", "left out", "held out")
    rows = []
    for check in checks:
        humans = "" if check.human_qwk is None else f"{check.human_qwk:.3f} of {check.doubly}"
        figures = (check.empty, check.duplicates, check.conflicts, check.left_out, check.held_out)
        levels = " ".join(map(str, check.levels))
        rows.append((check.task, str(check.rows), levels, humans, *(str(n or "") for n in figures)))
    numbers = {*columns[1:]} - {"by level"}
    print_table(
        console,
        columns,
        rows,
        title="Labelled responses",
        numbers=numbers,
        fold=("by level",),
    )


def remarks(data: Data, checks: Sequence[TaskCheck]) -> list[str]:
    """Return sentences about what is wrong, the gravest last."""
    lines = []
    for check in checks:
        if check.rows and check.without_rows:
            lines.append(f"{check.task}: no rows of level {_listed(check.without_rows)}")
    for check in checks:
        if check.rare:
            rare = _listed(check.rare)
            lines.append(f"{check.task}: level {rare} has fewer students or texts than there are folds")
    if without := [check.task for check in checks if not check.question]:
        lines.append(f"no question, which raters and the condition `copied` need: {_listed(without)}; see --tasks")
    if routed := [check.task for check in checks if check.routed_only]:
        lines.append(f"{_listed(routed)}: {ROUTED_ONLY}")
    lines += map(str, data.bad[:_BAD_SHOWN])
    if len(data.bad) > _BAD_SHOWN:
        lines.append(f"and {len(data.bad) - _BAD_SHOWN} more bad rows, which --check-json lists")
    for check in checks:
        if check.needed:
            needed = f"it needs {check.needed} more rows with other texts, by other students"
            lines.append(f"{check.task} is not trained: {needed}")
        elif not check.trainable:
            lines.append(f"{check.task} is not trained: all of its rows have one level")
    return lines


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, names))
