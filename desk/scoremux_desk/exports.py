"""Exports of the desk: final scores with their provenance, and labelled rows for training."""

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from scoremux_decide.total import Total
from scoremux_desk.database import log, programme, responses
from scoremux_desk.database.connection import Connection, Database
from scoremux_desk.database.schema import DRAWN, ROW, VALIDITY, Columns
from scoremux_desk.reading import decision_rows, drawn_rows
from scoremux_files.row_files import chunks, write_rows

_TEXT = pa.string()
_INT = pa.int32()
_LONG = pa.int64()
_REAL = pa.float64()
FINAL = pa.schema(
    {
        "id": _TEXT,
        "task": _TEXT,
        "status": _TEXT,
        "level": _INT,
        "score": _REAL,
        "code": _TEXT,
        "decided_by": _TEXT,
        "rater": _TEXT,
        "saw": _TEXT,
        "decided_at": _TEXT,
        "decision": _LONG,
        "machine_level": _INT,
        "probabilities": pa.list_(_REAL),
        "confidence": _REAL,
        "condition": _TEXT,
        "route": _TEXT,
        "read_behind": _REAL,
        "version": _TEXT,
        "source": _TEXT,
        "line": _LONG,
        "student": _TEXT,
        "administration": _TEXT,
        "added_at": _TEXT,
        "first_level": _INT,
        "total": _REAL,
        "machine_total": _REAL,
        "first_total": _REAL,
    }
)
"""Columns of final scores, in the order in which responses came to the desk, at `added_at`. status: as `scoremux score`
has it, CONDITION with a code, PENDING until a human decides, ODD where the task does not have the level, which then is
null. decided_by: machine, rater, agreement (of two), adjudication; nobody where the machine gave neither a level nor a
code and no human can. first_level: of the first person, whoever decided. total: of an item's traits, by their final
scores; machine_total, first_total: by those of the machine and of the first person. All three are null while a trait
has no such score, and where the desk was not given the rule (`--tasks`)."""

LABELLED = pa.schema(
    {
        "task": _TEXT,
        "text": _TEXT,
        "id": _TEXT,
        "level": _INT,
        "second": _INT,
        "final": _INT,
        "chosen_by": _TEXT,
        "probability": _REAL,
        "settled_by": _TEXT,
        "saw": _TEXT,
        "size": _INT,
        "decision": _LONG,
        "decided_at": _TEXT,
        "version": _TEXT,
        "student": _TEXT,
        "administration": _TEXT,
    }
)
"""Columns of labelled rows. level: the first rater's, blind where `saw` says so, or the known one of a validity paper;
second: the second rater's; final: what was settled, by adjudication where they differed. chosen_by: route (no sample of
all responses), read_behind and sample (random ones; probability: of being picked), validity, all (of a task without a
calibration). size: responses decided as one. student: who wrote it, null where the scored file did not say.
administration: the response's own, else the file or folder that brought it first."""

PAPERS = pa.schema({"task": _TEXT, "level": _INT, "known_level": _INT, "decided_at": _TEXT})
"""Columns of what raters gave validity papers, blind."""

_TOTALS = ("total", "machine_total", "first_total")
ODD = "ODD"
_Rows = Callable[[Database, str], Iterator[Columns]]


def odd_rows(database: Database, most: int) -> list[str]:
    """Return the faults of rows that are exported as ODD, the first ones of each task."""
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


def export_papers(database: Database, path: Path, _: str = "") -> int:
    """Write the readings of validity papers, for `scoremux watch`; return how many there are."""
    with database.read() as connection:
        reads = [read for read in decision_rows.blind_levels(connection) if read.kind == "validity"]
    lines = [{name: getattr(read, name, _time(read.at)) for name in PAPERS.names} for read in reads]
    write_rows(path, [pa.Table.from_pylist(lines, PAPERS)], PAPERS)
    return len(lines)


def _write(database: Database, path: Path, schema: Any, rows_of: _Rows, administration: str) -> int:
    """Write rows with the columns of a schema and those that jobs kept, but one of an old job that has such a name."""
    with database.read() as connection:
        kept = sorted(responses.kept_names(connection, administration) - {*schema.names})
    schema = pa.schema([*schema, *((name, pa.string()) for name in kept)])
    number = 0

    def tables() -> Iterator[Any]:
        nonlocal number
        for block in chunks(rows_of(database, administration), responses.BLOCK_ROWS):
            number += len(block)
            yield pa.Table.from_pylist(block, schema)

    write_rows(path, tables(), schema)
    return number


def _finals(database: Database, administration: str) -> Iterator[Columns]:
    with database.read() as connection:
        items = programme.all_items(connection)
        again = drawn_rows.drawn_again(connection)
        came = {entry.body["first"]: entry.at for entry in log.entries_of(connection, log.ROWS_ADDED)}
        firsts = sorted(came)
        drawn: dict[int, list[Any]] = {}
        for row in responses.final_rows(connection, again):
            drawn.setdefault(again[row.id], []).append(row)

        def final(row: Any) -> Columns:
            return _final(row, _read_row(row, *drawn.get(row.id, ())), items[row.task].levels)

        for block in chunks(responses.final_rows(connection), responses.BLOCK_ROWS):
            names = {row.name for row in block if items[row.task].total}
            of_items = (row for row in responses.final_rows(connection, names, ROW.name) if row.id not in again)
            totals = _totals(((row, final(row)) for row in of_items), items)
            for row in block:
                if row.id not in again and _is_of(administration, [row, *drawn.get(row.id, ())]):
                    added_at = came[firsts[bisect_right(firsts, row.id) - 1]]
                    yield {**final(row), **totals.get(responses.response_of(row), {}), "added_at": added_at}


def _totals(finals: Iterable[tuple[Any, Columns]], items: Mapping[str, programme.Item]) -> dict[Any, Columns]:
    """Return the totals of responses, by `responses.response_of`. finals: all their rows, with the columns of each."""
    points = defaultdict[Any, list[dict[str, float | None]]](lambda: [{}, {}, {}])
    rules = {}
    for row, final in finals:
        item = items[row.task]
        response = responses.response_of(row)
        if item.total and response[0]:
            rules[response] = item.total
            scores = final["score"], item.worth(row.level), item.worth(final["first_level"])
            for of_scorer, score in zip(points[response], scores, strict=True):
                of_scorer[row.task.rpartition(".")[2]] = score
    rule_of = lru_cache(None)(Total.model_validate_json)
    return {
        response: dict(zip(_TOTALS, map(rule_of(rule).of, points[response]), strict=True))
        for response, rule in rules.items()
    }


def _is_of(administration: str, rows: Iterable[Any]) -> bool:
    return not administration or any(row.administration == administration for row in rows)


def _read_row(row: Any, *drawn: Any) -> Any:
    """Return the row of a response that people read: the row itself, or a drawn one where the machine keeps it."""
    if row.state != "machine" or not drawn:
        return row
    return next((other for other in drawn if other.state == "done"), drawn[0])


def _final(row: Any, read: Any, points: Sequence[float]) -> Columns:
    """Return the columns of `FINAL`; read: the row of the same response whose state and decision count."""
    if read.state == "done":
        level = read.final_level
        code = read.final_code
        status = "CONDITION" if read.final_code else "OK"
        decided_by = read.kind if read.kind == "adjudication" else "agreement" if read.second is not None else "rater"
    elif read.state == "machine":
        level = row.level
        code = row.condition
        status = row.status
        decided_by = "machine" if level >= 0 or code else responses.NOBODY
    else:
        level = None
        code = ""
        status = "PENDING"
        decided_by = ""
    scored = level is not None and level >= 0
    if scored and level >= len(points):
        scored = False
        status = ODD
    return {
        **json.loads(row.kept or "{}"),
        **{name: getattr(row, name, None) for name in FINAL.names},
        "id": row.name,
        "source": responses.response_of(row)[-1] if responses.item_of_trait(row) else row.source,
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
        "first_level": read.first_level,
    }


def _labelled(database: Database, administration: str) -> Iterator[Columns]:
    with database.read() as connection:
        again = drawn_rows.drawn_again(connection)
        # One administration is a sample by its own design; how else a response was chosen adds nothing to its weight.
        chances = {} if administration else drawn_rows.chances(connection, again)
        names = drawn_rows.repeated_names(connection)
        several = _rows_of_responses(connection, again)
        for row in responses.labelled_rows(connection):
            first = again.get(row.id, row.id)
            came, labelled = several.get(first, ([row], [row]))
            chosen = next((other for other in labelled if _is_of(administration, [other])), None)
            if row.id == labelled[0].id and chosen is not None:
                kept = row.kept or next((other.kept for other in came if other.id == first), "")
                drawn = {"chosen_by": DRAWN, "probability": chances[first]} if first in chances else {}
                yield {
                    **json.loads(kept or "{}"),
                    **{name: getattr(row, name) for name in ("task", "text", "saw", "size", "decision", "version")},
                    "id": names.get(came[0].id, row.name),
                    "level": row.first_level,
                    "second": row.second_level,
                    "final": row.final_level,
                    "chosen_by": chosen.chosen_by or "route",
                    "probability": chosen.read_behind,
                    **drawn,
                    "settled_by": row.last_kind if row.last_kind == "adjudication" else row.state,
                    "decided_at": _time(row.at),
                    "student": row.student or None,
                    "administration": came[0].administration,
                }
        for row in () if administration else responses.rows_where(connection, ROW.state == VALIDITY):
            yield {
                **{name: getattr(row, name) for name in ("task", "text", "chosen_by", "administration")},
                "id": names.get(row.id, row.name),
                "level": row.known_level,
                "final": row.known_level,
                "settled_by": "known",
                "size": 1,
                "student": row.student or None,
            }


def _rows_of_responses(connection: Connection, again: Mapping[int, int]) -> dict[int, tuple[list[Any], list[Any]]]:
    """Return the rows of each response that is there more than once, in two orders.

    All in the order in which they came: the first one's id and administration name the response. And those that people
    gave a level: the first one's level counts, which is the one that a job scored if it has a level.
    """
    chosen = again.keys() | again.values()
    several: dict[int, tuple[list[Any], list[Any]]] = {}
    for row in responses.rows_of(connection, chosen):
        first = again.get(row.id, row.id)
        several.setdefault(first, ([], []))[0].append(row)
    for row in responses.labelled_rows(connection, chosen):
        first = again.get(row.id, row.id)
        labelled = several[first][1]
        labelled.insert(len(labelled) if row.id in again else 0, row)  # the row that a job scored comes first
    return several


def _time(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="seconds")
