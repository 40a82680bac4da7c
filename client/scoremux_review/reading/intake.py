"""Scored files come in: a row for each response, a read for each that a human is to see."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, insert, literal, select, update

from scoremux_client.errors import InputError
from scoremux_files.rows.readers import read_rows, whole_number
from scoremux_files.rows.writers import without_apostrophe
from scoremux_review.database import log
from scoremux_review.database.connection import Database
from scoremux_review.database.schema import queues, reads, rows, unindexed
from scoremux_review.desk_policy import Policy
from scoremux_review.reading import similar
from scoremux_review.reading.items import ensure_items, labelled
from scoremux_review.reading.response_texts import Texts

CHUNK_ROWS = 500
"""Rows of one transaction: raters never wait for longer than that takes."""

READ_BEHIND, EVERYTHING = "READ_BEHIND", "ALL"
"""Reasons beside those of a route: a random share of what the machine scored; rows of a task without a calibration."""

_NOBODY_CAN = ("UNKNOWN_TASK", "INVALID_TASK", "INVALID_TEXT", "FORBIDDEN_TASK")
"""Statuses of rows that a human cannot score either: there is no such task, or no text."""

_NEEDED = {"id", "task", "status", "level"}


@dataclass
class Added:
    """What a file brought."""

    rows: int = 0
    known: int = 0
    to_read: int = 0


def add_scored(database: Database, path: Path, texts: Texts, by: str = "scoremux review") -> Added:
    """Add what `scoremux score` wrote: a folder of parts, or one file. Adding it again adds only what is new.

    Args:
        database: Where to.
        path: The folder or file.
        texts: Where the responses' texts are.
        by: Who adds it, for the record.

    Raises:
        InputError: names file and row; rows before it are added.
    """
    with database.read() as connection:
        policy = Policy.load(connection)
    added = Added()
    found = (_row(path, number, row, texts, policy) for number, row in enumerate(read_rows(path), start=1))
    for chunk in _chunks(found):
        with database.write() as connection:
            new, to_read = _insert(database, connection, chunk)
        added.rows += len(chunk)
        added.known += len(chunk) - new
        added.to_read += to_read
    with database.write() as connection:
        body = {"file": path.name, "rows": added.rows, "known": added.known, "to_read": added.to_read}
        log.append(connection, database.now(), by, "added", body)
    return added


def add_validity(database: Database, path: Path, by: str = "scoremux review") -> int:
    """Add papers with a known level, to be slipped in among what raters read. Return how many are new."""
    new = 0
    for chunk in _chunks(_paper(path, n, *told) for n, told in enumerate(labelled(path), start=1)):
        with database.write() as connection:
            new += _insert(database, connection, chunk)[0]
    with database.write() as connection:
        log.append(connection, database.now(), by, "added", {"file": path.name, "validity": new})
    return new


def create_reads(connection: Connection, first: int) -> int:
    """Create the first read of the waiting rows from id `first` on; return how many."""
    waiting = (rows.c.id >= first) & (unindexed(rows.c.state) == "waiting")
    columns = ["row", "kind", "round", "task", "reason", "priority", "state"]
    chosen = select(
        rows.c.id, literal("first"), rows.c.round, rows.c.task, rows.c.reason, rows.c.priority, literal("open")
    ).where(waiting)
    connection.execute(insert(reads).from_select(columns, chosen))
    counted = select(rows.c.task, rows.c.reason, func.count().label("n")).where(waiting)
    number = 0
    for task, reason, n in connection.execute(counted.group_by(rows.c.task, rows.c.reason)).all():
        add_waiting(connection, task, reason, n)
        number += n
    return number


def add_waiting(connection: Connection, task: str, reason: str, number: int = 1) -> None:
    """Change the count of a queue."""
    this = (queues.c.task == task) & (queues.c.reason == reason)
    changed = connection.execute(update(queues).where(this).values(waiting=queues.c.waiting + number))
    if not changed.rowcount:
        connection.execute(insert(queues).values(task=task, reason=reason, waiting=number, done=0, spent_s=0.0))


def share(key: str) -> float:
    """Return a number in 0…1 that depends on the key alone, for random choices that can be repeated."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "replace")).digest()[:8], "big") / 2**64


def _insert(database: Database, connection: Connection, chunk: list[dict[str, Any]]) -> tuple[int, int]:
    levels: dict[str, int] = {}
    for row in chunk:
        number = max(len(json.loads(row["probabilities"])), row["level"] + 1, 2)
        levels[row["task"]] = max(levels.get(row["task"], 0), number)
    ensure_items(connection, levels)
    first = (connection.execute(select(func.max(rows.c.id))).scalar() or 0) + 1
    for number, row in enumerate(chunk):
        row["id"] = first + number
    database.insert_new(connection, rows, chunk)
    new = connection.execute(select(func.count()).where(rows.c.id >= first)).scalar_one()
    return new, create_reads(connection, first)


def _row(path: Path, number: int, row: dict[str, Any], texts: Texts, policy: Policy) -> dict[str, Any]:
    if not row.keys() >= _NEEDED:
        raise InputError(f"{path}, row {number}: not what `scoremux score` writes; id, task, status, level needed")
    name, task = _plain(path, row["id"]), _plain(path, row["task"]).partition("@")[0]
    source, line, text = texts.of(path, number, name, row)
    level = whole_number(path, number, row["level"])
    probabilities = _numbers(row.get("probabilities"))
    confidence = _number(row.get("confidence"))
    route, read_behind = str(row.get("route") or ""), _number(row.get("read_behind"))
    low, high = (None if (end := _number(row.get(name))) is None else int(end) for name in ("level_low", "level_high"))
    status = str(row["status"])
    chosen_by, reason = _chosen(status, route, read_behind, confidence is not None)
    unsure = confidence if confidence is not None else max(probabilities, default=0.0)
    order = "random" if chosen_by == "read_behind" else policy.order
    priority = {"uncertainty": unsure, "time": float(number)}.get(order, share(f"order {task} {name} {line}"))
    return {
        **_texts_of(task, text),
        "source": source,
        "line": line,
        "name": name,
        "status": status,
        "level": level,
        "probabilities": json.dumps(probabilities),
        "confidence": confidence,
        "level_low": low,
        "level_high": high,
        "condition": str(row.get("condition") or ""),
        "route": route,
        "read_behind": read_behind or None,
        "version": str(row.get("version") or ""),
        "chosen_by": chosen_by,
        "reason": reason,
        "priority": priority,
        "known_level": None,
        "state": "waiting" if reason else "machine",
    }


def _paper(path: Path, number: int, task: str, text: str, level: int, row: dict[str, Any]) -> dict[str, Any]:
    return {
        **_texts_of(task, text),
        "source": path.name,
        "line": number,
        "name": str(row.get("id") or number),
        "status": "OK",
        "level": -1,
        "probabilities": "[]",
        "confidence": None,
        "level_low": None,
        "level_high": None,
        "condition": "",
        "route": "",
        "read_behind": None,
        "version": "",
        "chosen_by": "validity",
        "reason": "",
        "priority": share(f"validity {task} {number}"),
        "known_level": level,
        "state": "validity",
    }


def _texts_of(task: str, text: str) -> dict[str, Any]:
    # PostgreSQL stores no NUL, and no database half of a surrogate pair.
    text = text.encode("utf-8", "replace").decode().replace("\0", "␀")
    found = similar.keys(task, text)
    a, b, c = found.near or (None, None, None)
    return {"task": task, "text": text, "exact_key": found.exact, "near_a": a, "near_b": b, "near_c": c}


def _chosen(status: str, route: str, read_behind: float | None, calibrated: bool) -> tuple[str, str]:
    """Return how a row was chosen for reading, and its queue; the queue is empty if no human reads it.

    Without a calibration nobody has said what the machine may keep, so humans may read everything.
    """
    if status in _NOBODY_CAN:
        return "", ""
    if route.startswith("human"):
        return "route", route.partition(":")[2] or "HUMAN"
    if read_behind:
        return "read_behind", READ_BEHIND
    return ("", "") if route and calibrated else ("all", EVERYTHING)


def _plain(path: Path, cell: object) -> str:
    return without_apostrophe(str(cell)) if path.suffix.lower() == ".csv" else str(cell)


def _numbers(cell: Any) -> list[float]:
    values = cell.split() if isinstance(cell, str) else (cell or ())
    return [float(f"{float(value):.6g}") for value in values]


def _number(cell: Any) -> float | None:
    value = float(cell) if cell not in (None, "") else float("nan")
    return None if value != value else value


def _chunks(found: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    remaining = iter(found)
    while chunk := list(islice(remaining, CHUNK_ROWS)):
        yield chunk
