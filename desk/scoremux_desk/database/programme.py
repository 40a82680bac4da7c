"""The programme, before anybody reads: the policy, the tasks as raters see them, and their anchor papers."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, insert, select

from scoremux_desk.database import log
from scoremux_desk.database.schema import (
    ANCHOR,
    SETTING,
    TASK,
    Columns,
    all_where,
    anchors,
    changed,
    deleted,
    found,
    inserted,
    settings,
    tasks,
)
from scoremux_desk.desk_policy import DeskPolicy
from scoremux_files import InputError

POLICY = "policy"
TEXTS = ("question", "reference", "rubric", "language", "item", "total")


@dataclass(frozen=True)
class Item:
    """A task.

    Attributes:
        levels: The points of each level; without a `task.json`, the levels themselves.
        reference: A good answer, which raters see beside the response.
        item: Of a trait, the id of its item; else empty.
        total: Of a trait, the rule of its item's total as JSON; empty without one.
    """

    id: str
    levels: tuple[float, ...]
    question: str = ""
    reference: str = ""
    rubric: str = ""
    language: str = ""
    item: str = ""
    total: str = ""
    paused: bool = False

    @property
    def is_described(self) -> bool:
        """Whether a file says what its levels are worth; else they are the levels themselves."""
        return self.levels != tuple(range(len(self.levels))) or bool(self.question)

    def worth(self, level: int | None) -> float | None:
        """Return the points of a level; None without one."""
        return None if level is None or not 0 <= level < len(self.levels) else self.levels[level]

    @property
    def keys(self) -> list[str]:
        """The key of each level: a digit stands for its points, other points have a letter; empty without one."""
        letters = iter("qwerdfghjkl")
        return [str(int(points)) if points in range(10) else next(letters, "") for points in self.levels]


def load_policy(connection: Connection) -> DeskPolicy:
    """Return the policy that the database keeps, or the defaults."""
    stored = connection.scalar(select(SETTING.value).where(SETTING.key == POLICY))
    return DeskPolicy.model_validate_json(stored) if stored else DeskPolicy()


def save_policy(connection: Connection, policy: DeskPolicy, by: str) -> None:
    """Keep a policy in the database."""
    deleted(connection, settings, SETTING.key == POLICY)
    inserted(connection, settings, key=POLICY, value=policy.model_dump_json())
    log.append(connection, by, "policy", policy.model_dump())


def save_items(connection: Connection, items: Iterable[Item], by: str) -> int:
    """Keep tasks, of which those that are there already get their new texts; return how many there are.

    A text that is empty now stays as it was: a store has no rubric that only the programme's folder has.
    """
    number = 0
    for item in items:
        number += 1
        before = found(connection, tasks, TASK.id == item.id)
        stored = json.loads(before.texts) if before else {}
        texts = {name: getattr(item, name) or stored.get(name, "") for name in TEXTS}
        values = {"levels": json.dumps(item.levels), "texts": json.dumps(texts, ensure_ascii=False)}
        if before is None:
            inserted(connection, tasks, id=item.id, **values)
        elif (before.levels, before.texts) != (values["levels"], values["texts"]):
            changed(connection, tasks, TASK.id == item.id, **values)
        else:
            continue
        log.append(connection, by, "task", {"task": item.id, "digest": digest_of(values["levels"], values["texts"])})
    return number


def ensure_items(connection: Connection, levels: Mapping[str, int], by: str) -> None:
    """Add tasks, or levels to them, so that each has a number of levels at least.

    A task without a description gets the levels themselves as points. Raises InputError if a task with a description
    has fewer levels.
    """
    items = {task.id: _item(task) for task in all_where(connection, tasks, TASK.id.in_(levels))}
    for task, number in levels.items():
        item = items.get(task, Item(task, ()))
        if len(item.levels) >= number:
            continue
        if item.is_described:
            raise InputError(f"task {task} has {len(item.levels)} levels, and its rows {number}; give its new --tasks")
        levels_alone = tuple(map(float, range(number)))
        save_items(connection, [replace(item, levels=levels_alone)], by)


def item_of(connection: Connection, task: str) -> Item:
    """Return a task that a row names."""
    return _item(connection.execute(select(tasks).where(TASK.id == task)).one())


def all_items(connection: Connection) -> dict[str, Item]:
    """Return all tasks by their ids."""
    return {row.id: _item(row) for row in all_where(connection, tasks)}


def pause_tasks(connection: Connection, task: str, paused: bool, by: str) -> None:
    """Stop or resume the reading of a task, or of all for an empty id."""
    these = [TASK.id == task] if task else []
    changed(connection, tasks, *these, paused=paused)
    log.append(connection, by, "paused" if paused else "resumed", {"task": task})


def replace_anchors(connection: Connection, papers: list[Columns], by: str) -> None:
    """Replace the anchor papers (task, level, text, note) of the tasks that `papers` has."""
    for task in dict.fromkeys(paper["task"] for paper in papers):
        deleted(connection, anchors, ANCHOR.task == task)
        of_task = [paper for paper in papers if paper["task"] == task]
        connection.execute(insert(anchors), of_task)
        body = {"task": task, "digest": anchors_digest(connection, task)}
        log.append(connection, by, "anchors", body)


def anchors_of(connection: Connection, task: str) -> list[Any]:
    """Return the anchor papers of a task by level: level, text, note."""
    return list(connection.execute(select(anchors).where(ANCHOR.task == task).order_by(ANCHOR.level, ANCHOR.id)))


def anchors_digest(connection: Connection, task: str) -> str:
    """Return the digest of a task's anchor papers."""
    papers = anchors_of(connection, task)
    return digest_of(*(_as_json([paper.id, paper.level, paper.text, paper.note]) for paper in papers))


def digest_of(*texts: str) -> str:
    """Return the sha256 of some texts."""
    return log.sha256_of(_as_json(texts))


def _as_json(values: Sequence[Any]) -> str:
    return json.dumps(values, ensure_ascii=False, default=repr)


def _item(row: Any) -> Item:
    return Item(row.id, tuple(json.loads(row.levels)), paused=row.paused, **json.loads(row.texts))
