"""Erasure: texts and ids of students leave the desk, the files of scores and the audit log; the record says so.

Files go first and the desk last, since the desk knows what to look for in them: an erasure that was killed is run
again. The record keeps the digest of each row, whose salt goes with the text, and still holds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from scoremux_client.errors import InputError
from scoremux_files.audit_lines import erase_digests, text_digest
from scoremux_files.rows.readers import chunks
from scoremux_files.rows.removal import Chosen, remove_rows
from scoremux_review.database import leases, log, responses
from scoremux_review.database.connection import Connection, Database

_CHUNK_ROWS = 500


@dataclass(frozen=True)
class ErasureRequest:
    """What is to be erased, and where.

    Attributes:
        ids: Ids of rows.
        before: Everything older than this, too.
        places: Files and folders that `scoremux score` and `scoremux review export` wrote.
        audit_logs: Audit logs.
        audit_key: The key of their digests, None without one.
        texts: Texts of these ids that the desk does not have.
    """

    ids: Collection[str] = ()
    before: datetime | None = None
    places: Sequence[Path] = ()
    audit_logs: Sequence[Path] = ()
    audit_key: bytes | None = None
    texts: Collection[str] = ()

    def __str__(self) -> str:
        older = f"older than {self.before.isoformat(timespec='minutes')}" if self.before else ""
        return ", ".join(filter(None, (f"{len(self.ids):,} ids" if self.ids else "", older)))


@dataclass
class Erased:
    """What was erased.

    Attributes:
        rows: Of the desk.
        files: Place → rows that left its files.
        digests: Of audit logs.
        named: Files that hold an id, and have to be deleted by hand.
        refusals: What the database would not do.
    """

    rows: int = 0
    files: dict[str, int] = field(default_factory=dict)
    digests: int = 0
    named: list[Path] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


@dataclass
class _Aged:
    """Responses that go by age, as files know them.

    Attributes:
        rows: Their numbers.
        places: Id → source and line.
        tasks: Id → tasks; those of a newer row with the same id stay.
        remaining: Ids that newer rows have, too.
    """

    rows: set[int] = field(default_factory=set)
    places: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    tasks: dict[str, set[str]] = field(default_factory=dict)
    remaining: set[str] = field(default_factory=set)

    def add(self, row: Any) -> None:
        self.rows.add(row.id)
        self.places.setdefault(row.name, set()).add((row.source, str(row.line)))
        self.tasks.setdefault(row.name, set()).add(row.task)

    def except_for(self, row: Any) -> None:
        """Keep what a row has in common with these, unless it is among them."""
        if row.id not in self.rows:
            self.tasks[row.name].discard(row.task)
            self.remaining.add(row.name)


def erase(database: Database, request: ErasureRequest, by: str) -> Erased:
    """Erase, and note in the record what was erased and by whom.

    Args:
        database: The desk's.
        request: What, and where.
        by: Who erases, for the record.

    Raises:
        InputError: nothing was asked for, an alert waits, or a file cannot be changed; run it again then.
    """
    if not request.ids and request.before is None:
        raise InputError("nothing to erase: give --ids, --id or --before")
    erased, rows, keys = Erased(), set[int](), {None, request.audit_key}
    texts, ids = set(request.texts), set(request.ids)
    with database.read() as connection:
        for row in responses.rows_with_names(connection, ids):
            rows.add(row.id)
            texts.add(row.text)
        aged = _Aged()
        for row in responses.responses_up_to(connection, _last_before(connection, request.before)):
            texts.add(row.text)
            if row.name not in ids:
                aged.add(row)
        rows |= aged.rows
        for row in responses.rows_with_names(connection, aged.tasks):
            aged.except_for(row)
        if waiting := responses.count_open_alerts(connection, rows):
            raise InputError(f"{waiting:,} of these responses have an alert that nobody has handled; handle it first")
    chosen = Chosen(ids, aged.places, aged.tasks, aged.tasks.keys() - aged.remaining)
    for place in request.places:
        removal = remove_rows(place, chosen, request.before.timestamp() if request.before else None)
        erased.files[str(place)] = removal.rows
        erased.named += removal.named
    digests = {text_digest(sent, key) for text in texts for sent in _as_sent(text) for key in keys}
    for path in request.audit_logs:
        erased.digests += erase_digests(path, digests, request.before)
    for chunk in chunks(sorted(rows), _CHUNK_ROWS):
        with database.write() as connection:
            erased.rows += _erase_chunk(connection, chunk, by, database.now())
    with database.write() as connection:
        body = {"asked": str(request), "rows": erased.rows, "files": erased.files, "digests": erased.digests}
        log.append(connection, database.now(), by, log.ERASURE, body)
    erased.refusals = database.compact()
    return erased


def _erase_chunk(connection: Connection, chunk: Sequence[int], by: str, now: float) -> int:
    rows = responses.not_erased(connection, chunk)  # someone else may have erased some meanwhile
    leases.withdraw_reads(connection, rows)
    if rows:
        body = {"rows": list(rows), "digest": responses.erase_rows(connection, rows)}
        log.append(connection, now, by, log.ROWS_ERASED, body)
    return len(rows)


def _last_before(connection: Connection, before: datetime | None) -> int:
    """Return the id of the last row that was added before a time; 0 without one."""
    if before is None:
        return 0
    added = log.entries_of(connection, log.ROWS_ADDED)
    return max((e.body["last"] for e in added if datetime.fromisoformat(e.at) < before), default=0)


def _as_sent(text: str) -> set[bytes]:
    """Return what may have been sent where the desk has this text: PostgreSQL stores no NUL."""
    return {text.encode("utf-8", "replace"), text.replace("␀", "\0").encode("utf-8", "replace")}
