"""Erasure: texts and ids of students leave the desk and the audit log; the record says so.

Audit logs go first and the desk last, since the desk has the texts whose digests they hold: an erasure that was killed
is run again. The record keeps the digest of each row, whose salt goes with the text, and still holds.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from typing import Any

from scoremux_batch.jobs import JobFolder
from scoremux_client.audit_lines import erase_digests, text_digest
from scoremux_desk.database import api_rows, log, reads, responses
from scoremux_desk.database.connection import Connection, Database
from scoremux_desk.database.schema import ERASED, PAPERS, ROW
from scoremux_files import InputError
from scoremux_files.row_files import chunks

_CHUNK_ROWS = 500


@dataclass(frozen=True)
class ErasureRequest:
    """The rows to erase, and where.

    Attributes:
        before: Everything older than this, too.
        audit_key: The key of their digests, None without one.
        texts: Texts of these ids that the desk does not have.
        outputs: Folders of `scoremux score`, whose parts and alerts lose the rows with these ids.
        token: Whose ids these are: of rows of this namespace of the API, of files if it is empty, or of all if it is
            ``*``. None where no id may be of two.
    """

    ids: Collection[str] = ()
    before: datetime | None = None
    audit_logs: Sequence[Path] = ()
    audit_key: bytes | None = None
    texts: Collection[str] = ()
    outputs: Sequence[Path] = ()
    token: str | None = None

    def __str__(self) -> str:
        older = f"older than {self.before.isoformat(timespec='minutes')}" if self.before else ""
        whose = f" of {self.token}" if self.token else ""
        return ", ".join(filter(None, (f"{len(self.ids):,} ids{whose}" if self.ids else "", older)))


@dataclass
class Erased:
    """The numbers of erased rows and digests, and the refusals.

    Attributes:
        outputs: Rows of files that jobs wrote.
        refusals: Rows that were not erased, and why.
    """

    rows: int = 0
    digests: int = 0
    outputs: int = 0
    refusals: list[str] = field(default_factory=list)


def erase(database: Database, request: ErasureRequest, by: str) -> Erased:
    """Erase, and note in the record what was erased and by whom. Raises InputError; run it again then."""
    if not request.ids and request.before is None:
        raise InputError("nothing to erase: give --ids, --id or --before")
    erased = Erased()
    rows = set[int]()
    names = set(request.ids)
    texts = set(request.texts)
    with database.read() as connection:
        named = _of_token(connection, request)
        last = _last_before(connection, request.before)
        older = responses.rows_where(connection, ROW.id <= last, ROW.state.not_in((*PAPERS, ERASED)))
        for row in chain(named, older):
            rows.add(row.id)
            texts.add(row.text)
            names.add(row.name)
        if waiting := responses.count_open_alerts(connection, rows):
            raise InputError(f"{waiting:,} of these responses have an alert that nobody has handled; handle it first")
    _erase_in_files(request, texts, erased)
    erased.rows = _erase_rows(database, sorted(rows), by)
    _note(database, by, str(request), erased.rows, erased.digests)
    erased.refusals += (f"the database says: {line}; let its owner do it" for line in database.compact())
    return erased


def _of_token(connection: Connection, request: ErasureRequest) -> list[Any]:
    """Return the rows that have the ids and are the token's.

    Raises InputError where no token is given, and an id is one of several.
    """
    named = [*api_rows.rows_with_names(connection, set(request.ids))]
    if request.token == "*":
        return named
    if request.token is not None:
        return [row for row in named if row.token == request.token]
    owners: dict[str, set[str]] = {name: set() for name in request.ids}
    for row in named:
        owners[row.name].add(row.token)
    for folder in request.outputs:
        for job in JobFolder.below(folder):
            for name in owners.keys() & {*job.ids()}:
                owners[name].add("")
    if several := sorted(name for name, tokens in owners.items() if len(tokens) > 1):
        name = several[0]
        tokens = ", ".join(f"--token {token}" if token else "--token '' (from files)" for token in sorted(owners[name]))
        raise InputError(
            f"{len(several):,} of these ids are of responses of several tokens, which may be of different students; "
            f"nothing was erased: say whose to erase, of {name!r}: {tokens}; or --token '*'"
        )
    return named


def _erase_in_files(request: ErasureRequest, texts: Collection[str], erased: Erased) -> None:
    keys = {None, request.audit_key}
    digests = {text_digest(sent, key) for text in texts for sent in _as_sent(text) for key in keys}
    for path in request.audit_logs:
        erased.digests += erase_digests(path, digests, request.before)
    for folder in request.outputs:
        erased.outputs += sum(job.erase(request.ids) for job in JobFolder.below(folder))


def expire(database: Database, before: float, by: str) -> int:
    """Erase the settled rows that came by the API before a time; return how many they are.

    Rows that wait to be read, or have an open alert, stay until the next time.
    """
    with database.read() as connection:
        rows = api_rows.expired_rows(connection, before)
    erased = _erase_rows(database, rows, by)
    if erased:
        old = ErasureRequest(before=datetime.fromtimestamp(before, timezone.utc))
        _note(database, by, f"settled rows of the API, {old}", erased, 0)
        database.empty_log()
    return erased


def _erase_rows(database: Database, chosen: Sequence[int], by: str) -> int:
    """Erase rows, some in each transaction; return how many nobody else has erased meanwhile."""
    erased = 0
    for chunk in chunks(chosen, _CHUNK_ROWS):
        with database.write() as connection:
            rows = [row.id for row in responses.rows_where(connection, ROW.id.in_(chunk), ROW.state != ERASED)]
            reads.withdraw_reads(connection, rows)
            if rows:
                body = {"rows": rows, "digest": responses.erase_rows(connection, rows)}
                log.append(connection, by, log.ROWS_ERASED, body)
            erased += len(rows)
    return erased


def _note(database: Database, by: str, asked: str, rows: int, digests: int) -> None:
    """Note an erasure in the record."""
    with database.write() as connection:
        body = {"asked": asked, "rows": rows, "digests": digests}
        log.append(connection, by, log.ERASURE, body)


def _last_before(connection: Connection, before: datetime | None) -> int:
    """Return the id of the last row that was added before a time; 0 without one."""
    if before is None:
        return 0
    added = log.entries_of(connection, log.ROWS_ADDED)
    return max((e.body["last"] for e in added if datetime.fromisoformat(e.at) < before), default=0)


def _as_sent(text: str) -> set[bytes]:
    """Return the texts that may have been sent where the desk has this one: PostgreSQL stores no NUL."""
    return {text.encode("utf-8", "replace"), text.replace("␀", "\0").encode("utf-8", "replace")}
