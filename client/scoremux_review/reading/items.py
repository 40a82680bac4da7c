"""Tasks as raters see them (`task.json`), and the papers that go with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from scoremux_client.errors import InputError
from scoremux_files.rows.readers import read_rows, whole_number
from scoremux_review.database.schema import papers, tasks

_TEXTS = ("question", "reference", "rubric", "language")


@dataclass(frozen=True)
class Item:
    """A task. levels: the points of each level; without a `task.json`, the levels themselves."""

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


def read_items(folder: Path) -> Iterator[Item]:
    """Yield the live tasks of a store, or those of the task folders in `folder`. Raises InputError."""
    manifest = folder / "manifest.json"
    if manifest.is_file():
        found = _json(manifest).get("tasks")
        digests = found if isinstance(found, dict) else {}
        paths = [folder / "packages" / str(digest) / "task.json" for digest in digests.values()]
    else:
        paths = sorted(folder.glob("*/task.json"))
    if not paths:
        raise InputError(f"{folder} is neither a store of tasks nor a folder of task folders")
    for path in paths:
        yield _item(path)


def add_items(connection: Connection, items: Iterator[Item]) -> int:
    """Keep tasks; a task that is there already gets its new texts. Return how many."""
    number = 0
    for item in items:
        texts = json.dumps({name: getattr(item, name) for name in _TEXTS}, ensure_ascii=False)
        values = {"levels": json.dumps(item.levels), "texts": texts}
        if not connection.execute(update(tasks).where(tasks.c.id == item.id).values(**values)).rowcount:
            connection.execute(insert(tasks).values(id=item.id, paused=False, **values))
        number += 1
    return number


def ensure_items(connection: Connection, levels: dict[str, int]) -> None:
    """Add tasks that nobody described, by their number of levels."""
    known = set(connection.execute(select(tasks.c.id).where(tasks.c.id.in_(levels))).scalars())
    new = (Item(task, tuple(map(float, range(number)))) for task, number in levels.items() if task not in known)
    add_items(connection, new)


def item_of(connection: Connection, task: str) -> Item:
    """Return a task that a row names."""
    found = connection.execute(select(tasks).where(tasks.c.id == task)).one()
    texts: dict[str, Any] = json.loads(found.texts)
    return Item(found.id, tuple(json.loads(found.levels)), paused=found.paused, **texts)


def questions(connection: Connection) -> dict[str, str]:
    """Return the question of every task."""
    found = connection.execute(select(tasks.c.id, tasks.c.texts))
    return {task.id: json.loads(task.texts)["question"] for task in found}


def add_papers(connection: Connection, path: Path, kind: str) -> int:
    """Replace the anchor or labelled papers of the tasks in a file with task, text and level. Return how many."""
    found = [
        {"task": task, "kind": kind, "text": text, "level": level, "note": str(row.get("note") or "")}
        for task, text, level, row in labelled(path)
    ]
    for task in {paper["task"] for paper in found}:
        connection.execute(delete(papers).where(papers.c.task == task, papers.c.kind == kind))
    if found:
        connection.execute(insert(papers), found)
    return len(found)


def anchors_of(connection: Connection, task: str) -> list[Any]:
    """Return the anchor papers of a task by level: level, text, note."""
    query = select(papers.c.level, papers.c.text, papers.c.note).where(papers.c.task == task, papers.c.kind == "anchor")
    return list(connection.execute(query.order_by(papers.c.level, papers.c.id)))


def labelled(path: Path) -> Iterator[tuple[str, str, int, dict[str, Any]]]:
    """Yield task, text, level and all columns of a file of labelled responses. Raises InputError."""
    for number, row in enumerate(read_rows(path), start=1):
        task, text = row.get("task"), row.get("text")
        if not isinstance(task, str) or not isinstance(text, str) or row.get("level") in (None, ""):
            raise InputError(f"{path}, row {number}: the columns task, text and level are needed")
        yield task, text, whole_number(path, number, row["level"]), row


def _item(path: Path) -> Item:
    told = _json(path)
    try:
        levels = tuple(float(points) for points in told["levels"])
        texts: dict[str, Any] = {name: str(told.get(name) or "") for name in _TEXTS}
        return Item(str(told["id"]), levels, **texts)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: id and levels are needed, levels as a list of numbers") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON") from error
    if not isinstance(told, dict):
        raise InputError(f"{path} is not a JSON object")
    return told
