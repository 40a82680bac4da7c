"""Scored responses come in: a row for each, a read for each that a human is to see."""

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoremux_batch.jobs import Origin, scored_rows
from scoremux_client.contract import NOBODY_CAN, TOTAL, Reason
from scoremux_desk.database import log, programme, reads, responses
from scoremux_desk.database.connection import Connection, Database
from scoremux_desk.database.schema import ALL, BEHIND, DRAWN, ROUTE, VALIDITY, Columns
from scoremux_desk.desk_policy import DeskPolicy
from scoremux_desk.reading.task_files import read_papers
from scoremux_evidence.rows import fold
from scoremux_files import InputError, parsing
from scoremux_files.row_files import cell_text, chunks, whole_number

CHUNK_ROWS = 500
"""Rows of one transaction: raters never wait for longer than that takes."""

READ_BEHIND, EVERYTHING, SAMPLE = "READ_BEHIND", "ALL", "SAMPLE"
"""Reasons beside those of a route: a random share of what the machine scored; rows without a route; what `scoremux
sample` drew."""

SURE_READ = 0.1
"""The share of responses of which people read traits that the policy leaves to the machine, too: figures rest on it."""

_MOST_LINE = 2**63 - 1
_MOST_LEVEL = 10_000
_MOST_NAME_BYTES = 2_000
_TEXTS = ("text", "source", "administration", "student", "kept")
_NO_SCORE = {"status": "OK", "level": -1}
_COMPARED = ("status", "level", "route", "version", "chosen_by", "read_behind")


@dataclass
class Added:
    """Numbers of the rows of a file.

    Attributes:
        already_there: How many of them the desk had before.
        rescored: How many of these have another score or route than the one that the desk had.
        to_read: How many of the new ones people read.
    """

    rows: int = 0
    already_there: int = 0
    rescored: int = 0
    to_read: int = 0


def add_scored(
    database: Database,
    path: Path,
    by: str = "scoremux review",
    responses: Sequence[Path] = (),
    columns: Sequence[str] | None = None,
) -> Added:
    """Add the output of `scoremux score`, a folder of parts or one file. Adding it again adds only what is new.

    Args:
        responses, columns: As for `scored_rows`.

    Raises:
        InputError: names file and row; rows before it are added.
    """
    with database.read() as connection:
        policy = programme.load_policy(connection)
        traits = [item for item in programme.all_items(connection).values() if item.item]
    lines = (
        _scored_row(path, number, of_trait, origin, policy)
        for number, (row, origin) in enumerate(scored_rows(path, responses, columns), start=1)
        for of_trait in _by_trait(row, traits)
    )
    added = _add_rows(database, lines, path.name, by)
    with database.write() as connection:
        counts = {"rows": added.rows, "known": added.already_there, "to_read": added.to_read}
        log.append(connection, by, "added", {"file": path.name, **counts})
    return added


def add_papers(database: Database, path: Path, kind: str, by: str = "scoremux review") -> int:
    """Add papers with a known level, of one of `PAPERS`; return how many are new. Raises as `add_scored` does."""
    papers = (_paper(path, kind, n, *paper) for n, paper in enumerate(read_papers(path), start=1))
    added = _add_rows(database, papers, path.name, by)
    new = added.rows - added.already_there
    with database.write() as connection:
        log.append(connection, by, "added", {"file": path.name, kind: new})
    return new


def share(key: str) -> float:
    """Return a number in 0…1 that depends on the key alone, for random choices that can be repeated."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "replace")).digest()[:8], "big") / 2**64


def _add_rows(database: Database, lines: Iterable[Columns], file: str, by: str) -> Added:
    added = Added()
    for chunk in chunks(lines, CHUNK_ROWS):
        with database.write() as connection:
            added.rescored += _count_rescored(connection, chunk, file)
            new, to_read = insert_rows(connection, chunk, file, by)
        added.rows += len(chunk)
        added.already_there += len(chunk) - len(new)
        added.to_read += to_read
    return added


def _count_rescored(connection: Connection, chunk: list[Columns], file: str) -> int:
    """Return how many known rows come with another score or route. Raises InputError for another text or level."""
    rescored = 0
    on_desk = responses.rows_at(connection, chunk)
    for row in chunk:
        before = on_desk.get((row["source"], row["line"], row["name"]))
        if before is None:
            continue
        if (before.task, before.text) != (row["task"], row["text"]):
            raise InputError(
                f"{file}: line {row['line']} of {row['source']} has another text or task than when "
                f"{before.administration} brought it; if these are two files of one name, rename the new one "
                "(responses: and score them again)"
            )
        if before.known_level != row["known_level"]:
            raise InputError(
                f"{file}: the paper in line {row['line']} has the known level {before.known_level} here, which raters "
                "were compared with; give the corrected paper another id, or put it in a file of another name"
            )
        rescored += any(not _equal(getattr(before, name), row[name]) for name in _COMPARED)
    return rescored


def _equal(before: Any, now: Any) -> bool:
    both_numbers = isinstance(before, float) and isinstance(now, float)
    return math.isclose(before, now, rel_tol=1e-6) if both_numbers else bool(before == now)


def insert_rows(connection: Connection, chunk: list[Columns], file: str, by: str) -> tuple[list[int], int]:
    """Insert rows that the desk does not have, with their reads; note in the record that a file brought them.

    Returns:
        The ids of the new ones, in order, and how many of them people read.

    Raises:
        InputError: a row has a level that its task, as the desk knows it, does not have.
    """
    levels: dict[str, int] = {}
    for row in chunk:
        number = max(len(json.loads(row["probabilities"])), row["level"] + 1, (row["known_level"] or 0) + 1, 2)
        levels[row["task"]] = max(levels.get(row["task"], 0), number)
    programme.ensure_items(connection, levels, by)
    new = responses.insert_new_rows(connection, chunk)
    if not new:
        return [], 0
    numbers = [row for row, _ in new]
    body = {"file": file, "first": numbers[0], "last": numbers[-1], "digest": responses.chunk_digest(new)}
    log.append(connection, by, log.ROWS_ADDED, body)
    return numbers, reads.add_first_reads(connection, numbers[0])


def _by_trait(row: Columns, traits: Sequence[programme.Item]) -> Sequence[Columns]:
    """Return a drawn response of an item as a row for each of its traits; any other row as it is."""
    of_item = [trait.id for trait in traits if trait.item == row.get("task")] if row.get("chosen_by") == DRAWN else ()
    return [{**row, "task": name, "trait": name.rpartition(".")[2]} for name in of_item] or [row]


def _scored_row(path: Path, number: int, row: Columns, origin: Origin, policy: DeskPolicy) -> Columns:
    where = f"{path}, row {number}"
    if origin.administration is None:
        origin = origin._replace(administration=path.name)
    if row.get("chosen_by") == DRAWN:
        origin = origin._replace(source=f"{DRAWN} {path.name}", line=number)
    with parsing(f"{where}: not what `scoremux score` writes; a numeric column has no number"):
        outcome = {**row, "level": whole_number(path, number, row["level"])}
        task = str(row["task"]).partition("@")[0]
        columns = row_of(task, str(row["id"]), origin, outcome, policy, number)
    if columns["chosen_by"] == DRAWN and not 0 < (columns["read_behind"] or 0) <= 1:
        raise InputError(f"{where}: probability is not a number above 0 and at most 1")
    if not 0 <= columns["line"] <= _MOST_LINE or abs(columns["level"]) > _MOST_LEVEL:
        raise InputError(f"{where}: its line or level is out of range")
    if len(columns["source"].encode()) + len(columns["name"].encode()) > _MOST_NAME_BYTES:
        raise InputError(f"{where}: source and id have more than {_MOST_NAME_BYTES:,} bytes together")
    return columns


def row_of(task: str, name: str, origin: Origin, outcome: Columns, policy: DeskPolicy, number: int) -> Columns:
    """Return a scored response as a row for the database.

    Args:
        name: The id of the response.
        origin: Of a trait's row, where the response is.
        outcome: Columns as `scoremux score` writes them, and `scoremux sample` where it drew the response.
        number: Its place in time among the rows of one source.

    Raises:
        ValueError, TypeError, OverflowError: a numeric column has no number.
        InputError: the file has the name of a trait's, and the row is of no trait.
    """
    trait = str(outcome.get("trait") or "")
    item, _, name_of_trait = task.rpartition(".")
    if item and not trait and origin.source.startswith(responses.place_of(name_of_trait, "")):
        raise InputError(
            f"{origin.source}: rows of {task} cannot come from a file of this name, which the desk gives to traits; "
            "rename it (responses: and score them again)"
        )
    origin = origin._replace(source=responses.place_of(trait, origin.source))
    probabilities = _numbers(outcome.get("probabilities"))
    confidence = _number(outcome.get("confidence"))
    texts = {name: str(outcome.get(name) or "") for name in ("status", "route", "condition", "version")}
    picked = _number(outcome.get("read_behind"))
    chosen_by, reason = chosen(texts["status"], texts["route"], picked)
    probability = picked if chosen_by == BEHIND else None
    if reason == Reason.HELD.value:
        probability = 1.0
    sure = policy.sure_traits is not None and confidence is not None and confidence >= policy.sure_traits
    if sure and reason == Reason.LOW_CONFIDENCE.value and trait:
        is_read = share(f"sure {item} {name} {origin.line}") < SURE_READ
        chosen_by, reason, probability = (BEHIND, reason, SURE_READ) if is_read else ("", "", None)
    if name_of_trait == TOTAL:  # people decide about traits
        chosen_by, reason = "", ""
    if outcome.get("chosen_by") == DRAWN:
        chosen_by, reason, probability = DRAWN, SAMPLE, _number(outcome.get("probability"))
    certainty = max(probabilities, default=0.0) if confidence is None else confidence
    priorities = {"uncertainty": certainty, "time": float(number)}
    order = policy.order if probability is None else "random"
    return {
        **_place(task, name, origin),
        **texts,
        "level": outcome["level"],
        "probabilities": json.dumps(probabilities),
        "confidence": confidence,
        "level_low": _level(outcome.get("level_low")),
        "level_high": _level(outcome.get("level_high")),
        "read_behind": probability,
        "chosen_by": chosen_by,
        "reason": reason,
        "priority": priorities.get(order, share(f"order {task} {name} {origin.line}")),
        "known_level": None,
        "state": "waiting" if reason else "machine",
    }


def _paper(path: Path, kind: str, number: int, task: str, text: str, level: int, row: Columns) -> Columns:
    source = path.name if kind == VALIDITY else f"{kind} {path.name}"
    origin = Origin(source, number, text, cell_text(row.get("student")) or "", path.name)
    return {
        **row_of(task, str(row.get("id") or number), origin, _NO_SCORE, DeskPolicy(), number),
        "priority": share(f"{kind} {task} {number}"),
        "known_level": level,
        "chosen_by": kind,
        "reason": "",
        "state": kind,
    }


def _place(task: str, name: str, origin: Origin) -> Columns:
    """Return the columns of a row that say where the response is, with its cleaned texts."""
    texts = {cell: storable(getattr(origin, cell) or "") for cell in _TEXTS}
    key = hashlib.blake2b(f"{task}\0{fold(texts['text'])}".encode(), digest_size=8).digest()
    return {
        **texts,
        "task": task,
        "name": storable(name),
        "line": origin.line,
        "folded_key": int.from_bytes(key, "big", signed=True),
    }


def storable(cell: str) -> str:
    """Return a text as databases store it: PostgreSQL has no NUL, and none has half of a surrogate pair."""
    return cell.encode("utf-8", "replace").decode().replace("\0", "␀")


def chosen(status: str, route: str, read_behind: float | None) -> tuple[str, str]:
    """Return how a row was chosen for reading, and its queue; the queue is empty if no human reads it.

    Without a route or a calibration it is not known what the machine may keep, so humans may read everything, unless
    the server's profile leaves it to the machine. Of a new task people get everything, so that its rows are no choice
    of the machine's.
    """
    if status in NOBODY_CAN:
        return "", ""
    reason = route.partition(":")[2]
    if route == Reason.HELD.route:  # all that the machine would keep
        return BEHIND, reason
    if route in (Reason.NEW_TASK.route, Reason.UNCALIBRATED.route):
        return ALL, reason
    if route.startswith("human"):
        return ROUTE, reason or "HUMAN"
    if not route:
        return ALL, EVERYTHING
    return (BEHIND, READ_BEHIND) if read_behind else ("", "")


def _numbers(cell: Any) -> list[float]:
    values = cell.split() if isinstance(cell, str) else (cell or ())
    return [float(f"{float(value):.6g}") for value in values]


def _number(cell: Any) -> float | None:
    value = math.nan if cell in (None, "") else float(cell)
    return None if math.isnan(value) else value


def _level(cell: Any) -> int | None:
    number = _number(cell)
    return None if number is None else int(number)
