"""What leaves the desk: final scores with their provenance, labelled rows for training, scores for LTI platforms."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, select

from scoremux_client import lti
from scoremux_client.contract import Status
from scoremux_client.errors import InputError
from scoremux_files.atomic import replacing
from scoremux_files.rows.writers import write_rows
from scoremux_review.database.connection import Database
from scoremux_review.database.schema import decisions, people, reads, rows, tasks

FINAL = pa.schema(
    [
        ("id", pa.string()),
        ("task", pa.string()),
        ("status", pa.string()),
        ("level", pa.int32()),
        ("score", pa.float64()),
        ("code", pa.string()),
        ("decided_by", pa.string()),
        ("rater", pa.string()),
        ("saw", pa.string()),
        ("decided_at", pa.string()),
        ("decision", pa.int64()),
        ("machine_level", pa.int32()),
        ("probabilities", pa.list_(pa.float64())),
        ("confidence", pa.float64()),
        ("condition", pa.string()),
        ("route", pa.string()),
        ("read_behind", pa.float64()),
        ("version", pa.string()),
        ("source", pa.string()),
        ("line", pa.int64()),
    ]
)
"""Columns of final scores. status: as `scoremux score` has it, CONDITION with a code, PENDING until a human decides.
decided_by: machine, rater, agreement (of two), adjudication."""

LABELLED = pa.schema(
    [
        ("task", pa.string()),
        ("text", pa.string()),
        ("id", pa.string()),
        ("level", pa.int32()),
        ("second", pa.int32()),
        ("final", pa.int32()),
        ("chosen_by", pa.string()),
        ("probability", pa.float64()),
        ("settled_by", pa.string()),
        ("saw", pa.string()),
        ("size", pa.int32()),
        ("decision", pa.int64()),
        ("decided_at", pa.string()),
        ("version", pa.string()),
    ]
)
"""Columns of labelled rows. level: the first rater's, blind where `saw` says so, or the known one of a validity paper;
second: the second rater's; final: what was settled, by adjudication where they differed. chosen_by: route (no sample of
all responses), read_behind (a random one; probability: of being picked), validity, all (of a task without a
calibration). size: responses decided as one."""

_BLOCK = 5_000


def export_final(database: Database, path: Path) -> int:
    """Write the final score of every row; return how many. Raises InputError."""
    return _write(path, FINAL, _finals(database))


def export_labelled(database: Database, path: Path) -> int:
    """Write every response that a human gave a level, for `train`, `evaluate`, `report` and `calibrate`."""
    return _write(path, LABELLED, _labelled(database))


def export_lti(database: Database, path: Path) -> int:
    """Write one LTI AGS score a line; the row's id is the user, and rows that wait for a human are PendingManual."""
    with database.read() as connection:
        found = connection.execute(select(tasks.c.id, tasks.c.levels))
        points = {task: json.loads(levels) for task, levels in found}

    def lines() -> Iterator[dict[str, Any]]:
        for row in _finals(database):
            status = Status.OK if row["status"] in ("OK", "CONDITION", "PENDING") else Status(row["status"])
            waits = row["status"] != "OK"
            given = None if waits else lti.points(row["score"], max(points[row["task"]]))
            when = datetime.fromisoformat(row["decided_at"]) if row["decided_at"] else None
            progress = lti.grading_progress(status, row["status"] == "PENDING")
            maximum = lti.maximum(None, points[row["task"]])
            yield dict(lti.score(row["id"], given, maximum, when, "Completed", progress, row["code"] or None))

    try:
        number = 0
        with replacing(path, mode=None) as aside, aside.open("w", encoding="utf-8") as file:
            for line in lines():
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                number += 1
        return number
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


def _write(path: Path, schema: Any, found: Iterator[dict[str, Any]]) -> int:
    number = 0

    def tables() -> Iterator[Any]:
        nonlocal number
        while block := list(islice(found, _BLOCK)):
            number += len(block)
            yield pa.Table.from_pylist(block, schema)

    write_rows(path, tables(), schema)
    return number


def _finals(database: Database) -> Iterator[dict[str, Any]]:
    query = (
        select(rows, decisions.c.saw, decisions.c.at, decisions.c.kind, people.c.name.label("rater"))
        .outerjoin(decisions, decisions.c.id == rows.c.final_decision)
        .outerjoin(people, people.c.id == decisions.c.person)
        .where(rows.c.state != "validity")
        .order_by(rows.c.id)
    )
    with database.read() as connection:
        points = {t: json.loads(v) for t, v in connection.execute(select(tasks.c.id, tasks.c.levels))}
        second = set(_twice_read(connection))
        for row in connection.execution_options(yield_per=_BLOCK).execute(query):
            yield _final(row, points[row.task], row.id in second)


def _final(row: Any, points: list[float], twice: bool) -> dict[str, Any]:
    human = row.state == "done"
    level = (row.final_level if human else row.level) if row.state in ("done", "machine") else None
    level = None if level is None or level < 0 else level
    by = "" if row.state not in ("done", "machine") else "machine" if not human else "agreement" if twice else "rater"
    status = row.status if row.state == "machine" else "CONDITION" if row.final_code else "OK" if human else "PENDING"
    return {
        **{name: getattr(row, name) for name in FINAL.names if name in rows.c},
        "id": row.name,
        "status": status,
        "level": -1 if level is None else level,
        "score": None if level is None else points[level],
        "code": row.final_code or (row.condition if row.state == "machine" else ""),
        "decided_by": "adjudication" if row.kind == "adjudication" else by,
        "rater": row.rater or "",
        "saw": row.saw or "",
        "decided_at": _time(row.at),
        "decision": row.final_decision,
        "machine_level": row.level,
        "probabilities": json.loads(row.probabilities),
    }


def _labelled(database: Database) -> Iterator[dict[str, Any]]:
    first, second, other = decisions.alias("first"), decisions.alias("second"), reads.alias("other")
    same_round = reads.c.round == rows.c.round
    seconds = (
        select(second.c.row, second.c.level)
        .join(other, other.c.id == second.c.read)
        .join(rows, (rows.c.id == second.c.row) & (other.c.round == rows.c.round))
        .where(second.c.kind == "second", second.c.undone.is_(False))
        .subquery()
    )
    query = (
        select(rows, first.c.level.label("first_level"), first.c.saw, first.c.size, first.c.id.label("decision"),
               first.c.at, seconds.c.level.label("second_level"))
        .join(first, (first.c.row == rows.c.id) & (first.c.kind == "first") & first.c.undone.is_(False))
        .join(reads, (reads.c.id == first.c.read) & same_round)
        .outerjoin(seconds, seconds.c.row == rows.c.id)
        .where(first.c.level.is_not(None))
        .order_by(rows.c.id)
    )  # fmt: skip
    with database.read() as connection:
        adjudicated = dict(_adjudicated(connection))
        for row in connection.execution_options(yield_per=_BLOCK).execute(query):
            yield {
                "task": row.task, "text": row.text, "id": row.name, "level": row.first_level,
                "second": row.second_level, "final": row.final_level,
                "chosen_by": row.chosen_by, "probability": row.read_behind,
                "settled_by": "adjudication" if row.id in adjudicated else row.state,
                "saw": row.saw, "size": row.size, "decision": row.decision,
                "decided_at": _time(row.at), "version": row.version,
            }  # fmt: skip
        validity = select(rows.c.task, rows.c.text, rows.c.name, rows.c.known_level).where(rows.c.state == "validity")
        for row in connection.execution_options(yield_per=_BLOCK).execute(validity):
            known = {"level": row.known_level, "final": row.known_level, "chosen_by": "validity", "settled_by": "known"}
            yield {"task": row.task, "text": row.text, "id": row.name, **known, "size": 1}


def _twice_read(connection: Connection) -> Iterable[int]:
    query = select(decisions.c.row).where(decisions.c.kind == "second", decisions.c.undone.is_(False))
    return connection.execute(query).scalars()


def _adjudicated(connection: Connection) -> Iterable[tuple[int, int]]:
    query = select(decisions.c.row, decisions.c.level)
    found = connection.execute(query.where(decisions.c.kind == "adjudication", decisions.c.undone.is_(False)))
    return [(row, level) for row, level in found]


def _time(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="seconds")
