"""The data check: what a person should know of labelled responses before training on them."""

from __future__ import annotations

import math
import operator
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from scoremux_assess.agreement.statistics import qwk
from scoremux_engine.packages.task import Task
from scoremux_train.data import Data, Labelled
from scoremux_train.folds import same_text

LEAST_ROWS = 20
"""Fewest rows that a task is trained on."""

_BAD_SHOWN = 20


@dataclass(frozen=True)
class TaskCheck:
    """What was found of one task, counted over the rows to train on; held_out: rows of other splits.

    levels: rows by level. doubly: rows with a second level; human_qwk, human_exact: agreement of the two humans there.
    duplicates: rows whose text an earlier row has; conflicts: texts with two levels or more. left_out: rows whose text
    a held-out row has. needed: rows that are missing for training, 0 where there are enough.
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

    @property
    def without_rows(self) -> list[int]:
        return [level for level, count in enumerate(self.levels) if not count]

    @property
    def trainable(self) -> bool:
        return not self.needed and sum(map(bool, self.levels)) >= 2


def training_rows(rows: Sequence[Labelled]) -> list[Labelled]:
    """Return the rows to train on: not held out, and no held-out row has the same text."""
    held = {same_text(row.text) for row in rows if not row.trained}
    return [row for row in rows if row.trained and same_text(row.text) not in held]


def check(data: Data, folds: int) -> list[TaskCheck]:
    """Check every task. folds: as many texts a task needs at least."""
    return [_check(data.tasks[task], rows, folds) for task, rows in data.rows.items()]


def _check(task: Task, rows: Sequence[Labelled], folds: int) -> TaskCheck:
    used = training_rows(rows)
    levels_of = defaultdict(set)
    for row in used:
        levels_of[same_text(row.text)].add(row.level)
    pairs = [(row.level, row.second) for row in used if row.second is not None]
    first, second = zip(*pairs, strict=True) if pairs else ((), ())
    counts = Counter(row.level for row in used)
    return TaskCheck(
        task=task.id,
        rows=len(used),
        held_out=sum(not row.trained for row in rows),
        levels=[counts[level] for level in range(len(task.levels))],
        doubly=len(pairs),
        human_qwk=_number(qwk(first, second)) if pairs else None,
        human_exact=sum(map(operator.eq, first, second)) / len(pairs) if pairs else None,
        empty=sum(not row.text.strip() for row in used),
        duplicates=len(used) - len(levels_of),
        conflicts=sum(len(levels) > 1 for levels in levels_of.values()),
        left_out=sum(row.trained for row in rows) - len(used),
        needed=max(0, max(LEAST_ROWS, 2 * folds) - len(levels_of)),
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def as_json(data: Data, checks: Sequence[TaskCheck]) -> dict[str, Any]:
    """Return the check as JSON's types."""
    tasks = [{**asdict(one), "levels_without_rows": one.without_rows, "trainable": one.trainable} for one in checks]
    return {"tasks": tasks, "bad_rows": [asdict(bad) for bad in data.bad]}


def as_table(checks: Sequence[TaskCheck]) -> Table:
    """Return the check as a table for people."""
    heads = ("task", "rows", "by level", "human QWK", "empty", "duplicates", "conflicts", "left out", "held out")
    table = Table(*heads, title="Labelled responses")
    for column in (*table.columns[1:2], *table.columns[3:]):
        column.justify = "right"
    for one in checks:
        humans = "" if one.human_qwk is None else f"{one.human_qwk:.3f} of {one.doubly}"
        figures = (one.empty, one.duplicates, one.conflicts, one.left_out, one.held_out)
        table.add_row(one.task, str(one.rows), " ".join(map(str, one.levels)), humans, *(str(n or "") for n in figures))
    return table


def remarks(data: Data, checks: Sequence[TaskCheck]) -> list[str]:
    """Return sentences about what is wrong, the gravest last."""
    lines = [
        f"{one.task}: no rows of level {', '.join(map(str, one.without_rows))}" for one in checks if one.without_rows
    ]
    lines += [f"{bad.file}, line {bad.line}: {bad.reason}" for bad in data.bad[:_BAD_SHOWN]]
    if len(data.bad) > _BAD_SHOWN:
        lines.append(f"and {len(data.bad) - _BAD_SHOWN} more bad rows, which --check-json lists")
    for one in checks:
        if one.needed:
            lines.append(f"{one.task} is not trained: it needs {one.needed} more rows with different texts")
        elif not one.trainable:
            lines.append(f"{one.task} is not trained: all of its rows have one level")
    return lines
