"""What the desk knows before anybody reads: the policy, the tasks as raters see them, and their anchor papers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from scoremux_review.database.schema import anchors, settings, tasks
from scoremux_review.desk_policy import DeskPolicy

_POLICY = "policy"
TEXTS = ("question", "reference", "rubric", "language")


@dataclass(frozen=True)
class Item:
    """A task.

    Attributes:
        id: Of the task.
        levels: The points of each level; without a `task.json`, the levels themselves.
        question: As students saw it.
        reference: A good answer.
        rubric: What each level takes.
        language: Of the responses, such as ``en``.
        paused: Nobody reads its responses for now.
    """

    id: str
    levels: tuple[float, ...]
    question: str = ""
    reference: str = ""
    rubric: str = ""
    language: str = ""
    paused: bool = False

    def points(self, level: int) -> str:
        """Return what a level is worth, as people write it."""
        return f"{self.levels[level]:g}" if 0 <= level < len(self.levels) else "–"


def load_policy(connection: Connection) -> DeskPolicy:
    """Return the policy that the database keeps, or the defaults."""
    stored = connection.execute(select(settings.c.value).where(settings.c.key == _POLICY)).scalar_one_or_none()
    return DeskPolicy.model_validate_json(stored) if stored else DeskPolicy()


def save_policy(connection: Connection, policy: DeskPolicy) -> None:
    """Keep a policy in the database."""
    connection.execute(delete(settings).where(settings.c.key == _POLICY))
    connection.execute(insert(settings).values(key=_POLICY, value=policy.model_dump_json()))


def save_items(connection: Connection, items: Iterable[Item]) -> int:
    """Keep tasks; a task that is there already gets its new texts. Return how many."""
    number = 0
    for item in items:
        texts = json.dumps({name: getattr(item, name) for name in TEXTS}, ensure_ascii=False)
        values = {"levels": json.dumps(item.levels), "texts": texts}
        if not connection.execute(update(tasks).where(tasks.c.id == item.id).values(**values)).rowcount:
            connection.execute(insert(tasks).values(id=item.id, paused=False, **values))
        number += 1
    return number


def ensure_items(connection: Connection, levels: Mapping[str, int]) -> None:
    """Add tasks that nobody described, by their number of levels."""
    known = set(connection.execute(select(tasks.c.id).where(tasks.c.id.in_(levels))).scalars())
    save_items(connection, (Item(task, tuple(map(float, range(levels[task])))) for task in levels if task not in known))


def item_of(connection: Connection, task: str) -> Item:
    """Return a task that a row names."""
    return _item(connection.execute(select(tasks).where(tasks.c.id == task)).one())


def all_items(connection: Connection) -> dict[str, Item]:
    """Return all tasks by their ids."""
    return {row.id: _item(row) for row in connection.execute(select(tasks).order_by(tasks.c.id))}


def pause_tasks(connection: Connection, task: str, paused: bool) -> None:
    """Stop or resume the reading of a task, or of all for an empty id."""
    change = update(tasks).values(paused=paused)
    connection.execute(change.where(tasks.c.id == task) if task else change)


def replace_anchors(connection: Connection, papers: list[dict[str, Any]]) -> None:
    """Replace the anchor papers (task, level, text, note) of the tasks that these are of."""
    connection.execute(delete(anchors).where(anchors.c.task.in_({paper["task"] for paper in papers})))
    if papers:
        connection.execute(insert(anchors), papers)


def anchors_of(connection: Connection, task: str) -> list[Any]:
    """Return the anchor papers of a task by level: level, text, note."""
    return list(
        connection.execute(select(anchors).where(anchors.c.task == task).order_by(anchors.c.level, anchors.c.id))
    )


def _item(row: Any) -> Item:
    return Item(row.id, tuple(json.loads(row.levels)), paused=row.paused, **json.loads(row.texts))
