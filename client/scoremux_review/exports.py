"""What leaves the desk: final scores with their provenance, and labelled rows for training."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa

from scoremux_assess.labels.weights import SAMPLE
from scoremux_files.rows.readers import chunks
from scoremux_files.rows.writers import write_rows
from scoremux_review.database import drawn_rows, log, programme, responses
from scoremux_review.database.connection import Database

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
        ("student", pa.string()),
        ("administration", pa.string()),
        ("added_at", pa.string()),
    ]
)
"""Columns of final scores, in the order in which responses came to the desk, at `added_at`. status: as `scoremux score`
has it, CONDITION with a code, PENDING until a human decides, ODD where the task does not have the level, which then is
null. decided_by: machine, rater, agreement (of two), adjudication; nobody where the machine gave neither a level nor a
code and no human can."""

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
        ("student", pa.string()),
        ("administration", pa.string()),
    ]
)
"""Columns of labelled rows. level: the first rater's, blind where `saw` says so, or the known one of a validity paper;
second: the second rater's; final: what was settled, by adjudication where they differed. chosen_by: route (no sample of
all responses), read_behind and sample (random ones; probability: of being picked), validity, all (of a task
without a calibration). size: responses decided as one. student: who wrote it, null
where the scored file did not say. administration: the file or folder that
brought the response first."""


ODD = "ODD"

_Rows = Callable[[Database, str], Iterator[dict[str, Any]]]


def odd_rows(database: Database, most: int) -> list[str]:
    """Return what is wrong with rows that are exported as ODD, the first ones of each task."""
    with database.read() as connection:
        return [
            f"response {row.name} has level {row.level}, and task {task} has {len(item.levels)} levels; reopen it"
            for task, item in programme.all_items(connection).items()
            for row in responses.rows_beyond(connection, task, len(item.levels), most)
        ]


def export_final(database: Database, path: Path, administration: str = "") -> int:
    """Write the final score of every response, or of those that one scored file brought; return how many."""
    return _write(database, path, FINAL, _finals, administration)


def export_labelled(database: Database, path: Path, administration: str = "") -> int:
    """Write every response that a human gave a level, for `train`, `evaluate`, `report` and `calibrate`."""
    return _write(database, path, LABELLED, _labelled, administration)


def _write(database: Database, path: Path, schema: Any, rows_of: _Rows, administration: str) -> int:
    """Write rows with the columns of a schema and those that jobs kept."""
    with database.read() as connection:
        kept = responses.kept_names(connection, administration)
    schema, number = pa.schema([*schema, *((name, pa.string()) for name in kept)]), 0

    def tables() -> Iterator[Any]:
        nonlocal number
        for block in chunks(rows_of(database, administration), responses.BLOCK_ROWS):
            number += len(block)
            yield pa.Table.from_pylist(block, schema)

    write_rows(path, tables(), schema)
    return number


def _finals(database: Database, administration: str) -> Iterator[dict[str, Any]]:
    with database.read() as connection:
        points = {task: item.levels for task, item in programme.all_items(connection).items()}
        again = drawn_rows.drawn_again(connection)
        came = {entry.body["first"]: entry.at for entry in log.entries_of(connection, log.ROWS_ADDED)}
        firsts = sorted(came)
        drawn: dict[int, list[Any]] = {}
        for row in responses.final_rows(connection, again):
            drawn.setdefault(again[row.id], []).append(row)
        for row in responses.final_rows(connection):
            rows = [row, *drawn.get(row.id, ())]
            if row.id not in again and _is_of(administration, rows):
                added_at = came[firsts[bisect_right(firsts, row.id) - 1]]
                yield _final(row, _read_row(*rows), points[row.task]) | {"added_at": added_at}


def _is_of(administration: str, rows: Iterable[Any]) -> bool:
    return not administration or any(row.administration == administration for row in rows)


def _read_row(row: Any, *drawn: Any) -> Any:
    """Return the row of a response that people read: the row itself, or a drawn one where the machine keeps it."""
    if row.state != "machine" or not drawn:
        return row
    return next((other for other in drawn if other.state == "done"), drawn[0])


def _final(row: Any, read: Any, points: Sequence[float]) -> dict[str, Any]:
    """Return the columns of `FINAL`: by the human who settled the row, or by the machine.

    Args:
        read: The row of the same response whose state and decision count.
    """
    if read.state == "done":
        level, code, status = read.final_level, read.final_code, "CONDITION" if read.final_code else "OK"
        decided_by = read.kind if read.kind == "adjudication" else "agreement" if read.second is not None else "rater"
    elif read.state == "machine":
        level, code, status = row.level, row.condition, row.status
        decided_by = "machine" if level >= 0 or code else responses.NOBODY
    else:
        level, code, status, decided_by = None, "", "PENDING", ""
    scored = level is not None and level >= 0
    if scored and level >= len(points):
        scored, status = False, ODD
    return {
        **json.loads(row.kept or "{}"),
        **{name: getattr(row, name, None) for name in FINAL.names},
        "id": row.name,
        "status": status,
        "level": level if scored else None if status == ODD else -1,
        "score": points[level] if scored else None,
        "code": code,
        "decided_by": decided_by,
        "rater": read.rater or "",
        "saw": read.saw or "",
        "decided_at": _time(read.at),
        "decision": read.final_decision,
        "machine_level": row.level,
        "probabilities": json.loads(row.probabilities),
        "student": row.student or None,
    }


def _labelled(database: Database, administration: str) -> Iterator[dict[str, Any]]:
    with database.read() as connection:
        again = drawn_rows.drawn_again(connection)
        # One administration is a sample by its own design; how else a response was chosen adds nothing to its weight.
        chances = {} if administration else drawn_rows.chances(connection, again)
        names = drawn_rows.repeated_names(connection)
        drawn = {row.id: row for row in responses.rows_of(connection, again.keys() | again.values())}
        earliest: dict[int, Any] = {}  # response → the row that came first: its id and administration name it for good
        for number in sorted(drawn):
            earliest.setdefault(again.get(number, number), drawn[number])
        same: dict[int, list[Any]] = {}  # response → its rows, the one whose level counts first
        for row in responses.labelled_rows(connection, again.keys() | again.values()):
            rows = same.setdefault(again.get(row.id, row.id), [])
            rows.insert(0 if row.id not in again else len(rows), row)
        for row in responses.labelled_rows(connection):
            first = again.get(row.id, row.id)
            rows = same.get(first, [row])
            brought = earliest.get(first, row)
            chosen = next((other for other in rows if _is_of(administration, [other])), None)
            if row.id != rows[0].id or chosen is None:
                continue
            chosen_by, probability = chosen.chosen_by or "route", chosen.read_behind
            if first in chances:
                chosen_by, probability = SAMPLE, chances[first]
            yield {
                **json.loads(row.kept or (drawn[first].kept if first in drawn else "") or "{}"),
                "task": row.task, "text": row.text, "id": names.get(brought.id, row.name), "level": row.first_level,
                "second": row.second_level, "final": row.final_level,
                "chosen_by": chosen_by, "probability": probability,
                "settled_by": row.last_kind if row.last_kind == "adjudication" else row.state,
                "saw": row.saw, "size": row.size, "decision": row.decision,
                "decided_at": _time(row.at), "version": row.version, "student": row.student or None,
                "administration": brought.administration,
            }  # fmt: skip
        for row in () if administration else responses.validity_rows(connection):
            truth = {"level": row.known_level, "final": row.known_level, "chosen_by": "validity", "settled_by": "known"}
            truth["administration"] = row.administration
            name = names.get(row.id, row.name)
            yield {"task": row.task, "text": row.text, "id": name, **truth, "size": 1, "student": row.student or None}


def _time(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="seconds")
