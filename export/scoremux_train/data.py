"""Labelled responses from files, and what is known of their tasks."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scoremux_engine.packages.task import Task
from scoremux_evidence.rows import rules
from scoremux_evidence.rows.label_columns import LABEL_COLUMNS, LabelColumns
from scoremux_evidence.rows.points import holds_points, take_levels
from scoremux_evidence.rows.reading import column_hint, read_labels
from scoremux_evidence.rows.similar_texts import related
from scoremux_evidence.rows.table import Reasons, Rows
from scoremux_evidence.rows.weighing import routed_beside
from scoremux_files.rows.readers import same_text
from scoremux_files.rows.row_layout import Row as JsonRow
from scoremux_files.settings import check
from scoremux_train.errors import DataError

_MOST_PARTS = 0.1
"""The share of fractions among levels above which all are taken for points."""


FEW_LABELS = 48
"""From so many labelled rows on, a task is trained on them alone."""


class TrainingRows(NamedTuple):
    """The rows that a task is trained on, and the number of each row's group: near copies, and one student's rows."""

    rows: Rows
    groups: Sequence[int]


@dataclass
class Data:
    """Labelled responses: tasks and their rows by task id, and the rows that cannot be used, by reason.

    items: Items by id; their traits are among the tasks, such as ``essay-1.grammar``.
    unlabelled: Answers without a level, of tasks with a reference and fewer labelled rows than `FEW_LABELS`.
    unused: Ids of other tasks with such answers.
    """

    tasks: dict[str, Task] = field(default_factory=dict)
    rows: dict[str, Rows] = field(default_factory=dict)
    bad: Reasons = field(default_factory=dict)
    items: dict[str, Task] = field(default_factory=dict)
    unlabelled: dict[str, Rows] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)

    @cached_property
    def training(self) -> dict[str, TrainingRows]:
        """The rows to train on, by task id."""
        return {task: training_rows(rows) for task, rows in self.rows.items()}

    def adapters_of(self, tasks: Collection[str]) -> list[str]:
        """Return the ids to train an adapter for: tasks, and items in place of their traits, if all are there."""
        items = {name: [own.id for own, *_ in item.slices.values()] for name, item in self.items.items()}
        whole = [name for name, traits in items.items() if {*traits} <= {*tasks}]
        traits = {trait for of_item in items.values() for trait in of_item}
        return sorted([*whole, *(task for task in tasks if task not in traits)])


def read_data(
    paths: Sequence[Path],
    tasks: Mapping[str, JsonRow],
    columns: LabelColumns = LABEL_COLUMNS,
    unlabelled: Sequence[Path] = (),
) -> Data:
    """Read labelled responses.

    Args:
        paths: .csv, .jsonl and .parquet files.
        tasks: Fields of `task.json` by task id, from `read_tasks`; levels that are missing come from the rows.
        unlabelled: Files of answers without a level, as those of `score`.

    Raises:
        InputError: A file cannot be read, or rows contradict each other.
        DataError: No row is usable, or the fields of a task are wrong.
    """
    of_traits = {f"{item}.{trait}": fields for item, fields in tasks.items() for trait in columns.traits}
    tasks = {**tasks, **{name: {**fields, **tasks.get(name, {})} for name, fields in of_traits.items()}}
    points = "score" if columns.level != "score" else ""
    columns_read = replace(columns, score=columns.score or points)
    labels = read_labels(paths, columns_read, ("task", "text", "level"), strict=False)
    labels.require(columns)
    rows = labels.rows.without(rules.is_undecided(labels.rows))
    rows = rows.without(rules.of_no_task(rows, tasks) if tasks else {})
    pool = read_labels(unlabelled, replace(columns, level="", score="", second="", rater=""), ("task", "text")).rows
    if not len(rows) + len(pool):
        why = next((f"the first: {place}: {reason}" for reason, (place, *_) in rows.left_out.items()), "")
        hint = column_hint(labels.names) if labels.names else ""
        why = f"{why}{hint}" if why else "the files are empty"
        raise DataError(f"no usable row in {', '.join(map(str, paths))}; {why}")
    data = Data()
    parts = []
    of_tasks = {task: rows.where([]) for task in pool.by_task() if tasks.get(task, {}).get("levels")}
    for task, of_task in sorted((of_tasks | rows.by_task()).items()):
        fields = {**tasks.get(task, {}), "id": task}
        if not fields.get("levels"):
            fields["levels"] = _levels(task, of_task)
        described = data.tasks[task] = check(Task, fields, f"task {task}", DataError)
        _refuse_points(of_task, described, columns)
        leveled = take_levels(of_task, np.zeros(len(of_task), np.int64), [described.levels])
        leveled = leveled.without(rules.off_scale(leveled, len(described.levels)))
        data.rows[task] = _weighed(_with_seconds(leveled, len(described.levels)))
        parts.append(data.rows[task].left_out)
    data.bad = rows.noting(*parts).left_out
    for item in sorted({task.rpartition(".")[0] for task in data.tasks}):
        own = {trait: data.tasks[f"{item}.{trait}"] for trait in columns.traits if f"{item}.{trait}" in data.tasks}
        if len(own) > 1:
            traits = {trait: {"levels": task.levels} for trait, task in own.items()}
            fields = {name: value for name, value in tasks.get(item, {}).items() if name != "levels"}
            for name in ("question", "reference", "input"):
                told = {getattr(task, name) for task in own.values()} - {"", None}
                if len(told) > 1:
                    raise DataError(f"item {item}: its traits have different texts as {name}; an item has one")
                for value in told:
                    fields[name] = value
            data.items[item] = check(Task, {**fields, "id": item, "traits": traits}, f"item {item}", DataError)
    in_items = {trait.id for item in data.items.values() for trait, *_ in item.slices.values()}
    for name, answers in sorted(pool.by_task().items()):
        own_task = data.tasks.get(name)
        is_few = own_task and own_task.reference and len(data.training[name].rows) < FEW_LABELS
        if is_few and name not in in_items and len(new := _new_texts(answers, data.rows[name])):
            data.unlabelled[name] = new
        else:
            data.unused.append(name)
    return data


def _new_texts(answers: Rows, read: Rows) -> Rows:
    """Return answers whose texts no read or held-out row has, each text once, by id."""
    answers = answers.where(~rules.is_held_out(answers))
    keys = answers.response_keys()
    answers = answers.where(sorted(range(len(keys)), key=keys.__getitem__))
    first = {same_text(text or ""): place for place, text in reversed([*enumerate(answers.text)])}
    old = {"", *(same_text(text or "") for text in read.text)}
    return answers.where(sorted(place for text, place in first.items() if text not in old))


def _with_seconds(rows: Rows, levels: int) -> Rows:
    """Return the rows of a task without second levels that it does not have."""
    found = rules.second_off_scale(rows, levels)
    (off_scale,) = found.values()
    return rows.counting(found).plus(second=np.where(off_scale, math.nan, rows.second))


def _weighed(rows: Rows) -> Rows:
    """Leave routed rows out of all figures where the rows to train on have a sample of all responses."""
    trained = np.flatnonzero(~rules.is_held_out(rows))
    weight = rows.weight.copy()
    weight[trained[routed_beside(rows.where(trained))]] = math.nan
    return rows.plus(weight=weight)


def training_rows(rows: Rows) -> TrainingRows:
    """Return the rows to train on, by id: not held out, and no held-out row has the same text."""
    chosen = rows.without(rules.text_held_out(rows))
    keys = chosen.response_keys()
    chosen = chosen.where(sorted(range(len(keys)), key=keys.__getitem__))
    texts = [text or "" for text in chosen.text]
    return TrainingRows(chosen, related(texts, chosen.student.code) if texts else [])


def _levels(task: str, rows: Rows) -> list[float]:
    """Return the points of a task that nothing is known of: 0 … the highest level, or every score that occurs.

    Raises DataError where that would make up a level that no row has, or some rows have levels and others points.
    """
    is_whole = (rows.level >= 0) & (rows.level == np.floor(rows.level))
    whole = np.unique(rows.level[is_whole].astype(np.int64)).tolist()
    if not whole:
        points = [float(score) for score in np.unique(rows.score[~np.isnan(rows.score)])]
        if len(points) == 1:
            raise DataError(f"task {task}: all of its rows have {points[0]:g} points; give its levels in --tasks")
        return points
    has_points = np.isnan(rows.level) & ~np.isnan(rows.score) & ~np.isin(rows.score, whole)
    if has_points.any():
        place = rows.place(int(has_points.argmax()))
        raise DataError(f"{place}: task {task} has points here and levels elsewhere; give their levels in --tasks")
    if absent := sorted({*range(whole[-1])} - {*whole}):
        raise DataError(
            f"task {task}: its levels are {', '.join(map(str, whole))}, and no row has {absent[0]}; if these are "
            "points, name the column with --column score=NAME; if the scale has that level, give its levels in --tasks"
        )
    return [float(level) for level in range(max(*whole, 1) + 1)]


def _refuse_points(rows: Rows, task: Task, columns: LabelColumns) -> None:
    """Raise DataError where a column of levels holds the task's points, some of which would pass as other levels."""
    numbers = rows.level[~np.isnan(rows.level)]
    parts = numbers[numbers != np.floor(numbers)]
    has_points = holds_points(numbers, np.array(task.levels), len(task.levels))
    if has_points or len(parts) > _MOST_PARTS * len(numbers):
        number = parts[0] if len(parts) else numbers.max()
        raise DataError(
            f"task {task.id}: {columns.level} has {number:g}, so it holds points, not levels counted from 0; name it "
            "with --column score=NAME"
        )
