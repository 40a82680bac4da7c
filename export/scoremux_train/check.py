"""The data check: the flaws that a person should know of labelled responses before training on them."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from scoremux_engine.packages.task import Task
from scoremux_evidence.figures.agreement import qwk
from scoremux_evidence.rows.rules import is_held_out
from scoremux_evidence.rows.table import Rows
from scoremux_evidence.rows.weighing import ROUTED_ONLY, routed_only
from scoremux_files.errors import first_of
from scoremux_files.rows.readers import same_text
from scoremux_files.terminal import print_table
from scoremux_train.data import FEW_LABELS, Data, TrainingRows

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
        unlabelled: Answers that are learned without a level.
        routed_only: Whether people read these rows for their route alone, see `scoremux_evidence.rows.weighing`.
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
    unlabelled: int
    routed_only: bool

    @property
    def without_rows(self) -> list[int]:
        return [level for level, count in enumerate(self.levels) if not count]

    @property
    def trainable(self) -> bool:
        return not self.needed and sum(map(bool, self.levels)) >= 2


def check(data: Data, folds: int) -> list[TaskCheck]:
    """Check every task.

    Args:
        folds: A task needs twice as many different texts, and students where rows name them.
    """
    return [
        _check(data.tasks[name], rows, data.training[name], folds, len(data.unlabelled.get(name, ())))
        for name, rows in data.rows.items()
    ]


def _check(task: Task, rows: Rows, training: TrainingRows, folds: int, unlabelled: int) -> TaskCheck:
    used, groups = training
    human = used.level.astype(np.int64)
    texts = [same_text(text or "") for text in used.text]
    levels_of = defaultdict[str, set[int]](set)
    for text, level in zip(texts, human.tolist(), strict=True):
        levels_of[text].add(level)
    doubly = ~np.isnan(used.second)
    first, second = used.level[doubly], used.second[doubly]
    human_qwk = qwk(first, second) if doubly.any() else math.nan
    apart = Counter(level for level, _ in {*zip(human.tolist(), groups, strict=True)})
    held_out = int(is_held_out(rows).sum())
    return TaskCheck(
        task=task.id,
        rows=len(used),
        held_out=held_out,
        levels=np.bincount(human, minlength=len(task.levels)).tolist(),
        doubly=int(doubly.sum()),
        human_qwk=None if math.isnan(human_qwk) else human_qwk,
        human_exact=float((first == second).mean()) if doubly.any() else None,
        empty=texts.count(""),
        duplicates=len(used) - len(levels_of),
        conflicts=sum(len(levels) > 1 for levels in levels_of.values()),
        left_out=len(rows) - held_out - len(used),
        needed=max(0, LEAST_ROWS - len(levels_of), 2 * folds - len(set(groups))),
        rare=[level for level in range(len(task.levels)) if 0 < apart[level] < folds],
        question=bool(task.question),
        unlabelled=unlabelled,
        routed_only=routed_only(used),
    )


def print_checks(console: Console, checks: Sequence[TaskCheck]) -> None:
    columns = ("task", "rows", "by level", "human QWK", "empty", "duplicates", "conflicts", "left out", "held out")
    rows = []
    for check in checks:
        humans = "" if check.human_qwk is None else f"{check.human_qwk:.3f} of {check.doubly}"
        figures = (check.empty, check.duplicates, check.conflicts, check.left_out, check.held_out)
        levels = " ".join(map(str, check.levels))
        rows.append((check.task, str(check.rows), levels, humans, *(str(n or "") for n in figures)))
    numbers = {*columns[1:]} - {"by level"}
    print_table(console, columns, rows, title="Labelled responses", numbers=numbers, fold=("by level",))


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
    for reason, places in data.bad.items():
        lines.append(f"{len(places):,} rows {reason}: {first_of(places, _BAD_SHOWN)}")
    for check in checks:
        if check.unlabelled:
            lines.append(
                f"{check.task}: its adapter may learn {check.unlabelled} unlabelled answers beside {check.rows} labels"
            )
        elif check.needed:
            needed = f"it needs {check.needed} more rows with other texts, by other students"
            lines.append(f"{check.task} is not trained: {needed}")
        elif not check.trainable:
            lines.append(f"{check.task} is not trained: all of its rows have one level")
    trainable = {check.task for check in checks if check.trainable}
    for name, item in data.items.items():
        if lacking := sorted({own.id for own, *_ in item.slices.values()} - trainable):
            lines.append(f"{name} is not trained: {_listed(lacking)} would have to be, too")
    if data.unused:
        why = f"the task has no reference, traits or {FEW_LABELS} labels and more, or the texts are in labelled rows"
        lines.append(f"unlabelled answers that are not used: {_listed(data.unused)}: {why}")
    return lines


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, names))
