"""The record: who did what, when, and what they saw. Append-only, each entry with the digest of the one before.

Entries are written in the transaction that makes the change, so a change and its entry are there together or not at
all. An entry never holds a response's text, nor what people write about it: of a remark it has a digest, salted with
the row's salt, so that both can be erased and the record still holds.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

from sqlalchemy import Connection, select

from scoremux_desk.database.schema import ENTRY, REMARK, ROW, Columns, inserted, record, remarks, time_of
from scoremux_desk.errors import BrokenRecordError, ReviewError
from scoremux_files import parsing

ERASURE = "erasure"
ROWS_ERASED = "rows erased"
ROWS_ADDED = "rows added"
NOTHING = "0" * 64


@dataclass(frozen=True)
class LogEntry:
    """One entry as it is shown.

    Attributes:
        at: When the entry was written, as ISO 8601.
        by: Name of the person, or of the command.
        body: The details of the action, and the row.
        remark: The person's own words; empty if there are none, or if they were erased.
    """

    number: int
    at: str
    by: str
    action: str
    body: Columns
    digest: str
    remark: str = ""


def append(
    connection: Connection, by: str, action: str, body: Columns, row: int | None = None, remark: str = ""
) -> int:
    """Append an entry (`LogEntry`); return its number. Raises ReviewError for a remark about a row that was erased."""
    last, before = head(connection)
    number = last + 1
    if remark:
        salt = connection.execute(select(ROW.salt).where(ROW.id == row)).scalar_one()
        if not salt:
            raise ReviewError("the response was erased in the meantime; nothing is kept about it")
        body = {**body, "remark": remark_digest(salt, remark)}
    values = {
        "number": number,
        "at": datetime.fromtimestamp(time_of(connection), timezone.utc).isoformat(timespec="milliseconds"),
        "by": by,
        "action": action,
        "body": body,
        "row": row,
        "before": before,
    }
    entry = json.dumps(values, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    inserted(connection, record, number=number, entry=entry, digest=sha256_of(entry), row=row)
    if remark:
        inserted(connection, remarks, entry=number, row=row, text=remark)
    return number


def remark_digest(salt: str, remark: str) -> str:
    """Return the sha256 of a row's salt and a remark about it."""
    return sha256_of(json.dumps([salt, remark], ensure_ascii=False))


def head(connection: Connection) -> tuple[int, str]:
    """Return number and digest of the newest entry; (0, zeros) if there is none."""
    last = connection.execute(select(ENTRY.number, ENTRY.digest).order_by(ENTRY.number.desc()).limit(1)).one_or_none()
    return (last.number, last.digest) if last else (0, NOTHING)


def entries(connection: Connection, row: int | None = None, most: int = 200, before: int = 0) -> list[LogEntry]:
    """Return the newest entries, or those of one row; `before`: only entries with a smaller number."""
    query = select(ENTRY.entry, ENTRY.digest, REMARK.text)
    query = query.outerjoin(remarks, REMARK.entry == ENTRY.number).order_by(ENTRY.number.desc()).limit(most)
    if row is not None:
        query = query.where(ENTRY.row == row)
    if before:
        query = query.where(ENTRY.number < before)
    return [_entry(stored.entry, stored.digest, stored.text or "") for stored in connection.execute(query)]


def entries_of(connection: Connection, action: str) -> Iterator[LogEntry]:
    """Yield the entries of one action, the first one first."""
    # Entries are canonical JSON: their keys are sorted.
    query = select(record).where(ENTRY.entry.startswith(f'{{"action":"{action}"', autoescape=True))
    for stored in connection.execute(query.order_by(ENTRY.number)):
        yield _entry(stored.entry, stored.digest)


def read_entries(connection: Connection, expected: tuple[int, str] | None = None) -> Iterator[LogEntry]:
    """Yield all entries, the first one first, and check the chain.

    Args:
        expected: Number and digest of an entry that was noted earlier. Without it, a record whose newest entries
            were cut off still passes.

    Raises:
        BrokenRecordError: names the first entry that is wrong.
    """
    number = 0
    before = NOTHING
    query = select(record).order_by(ENTRY.number).execution_options(yield_per=10_000)
    for number, stored in enumerate(connection.execute(query), start=1):
        try:
            values = json.loads(stored.entry)
            intact = (stored.number, stored.row) == (number, values["row"]) == (values["number"], values["row"])
            intact = intact and values["before"] == before and sha256_of(stored.entry) == stored.digest
        except (ValueError, KeyError, TypeError):
            intact = False
        if not intact:
            raise BrokenRecordError(f"entry {number} of the record is missing or was changed")
        if expected and expected[0] == number and expected[1] != stored.digest:
            raise BrokenRecordError(f"entry {number} is not the one that was noted: its digest is {stored.digest}")
        before = stored.digest
        yield _entry(stored.entry, stored.digest)
    if expected and expected[0] > number:
        raise BrokenRecordError(f"the record ends at entry {number}; entry {expected[0]} was noted")


def _entry(text: str, digest: str, remark: str = "") -> LogEntry:
    with parsing(f"the entry with digest {digest} of the record cannot be understood", BrokenRecordError):
        entry = json.loads(text)
        body = {**entry["body"], "row": entry["row"]}
        number, at, by, action = (entry[name] for name in ("number", "at", "by", "action"))
    # Entries of format 1 hold the remark itself.
    remark = remark or str(body.get("note") or body.get("why") or "")
    return LogEntry(number, at, by, action, body, digest, remark)


def sha256_of(text: str) -> str:
    """Return the sha256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()
