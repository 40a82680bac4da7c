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
        outputs: Folders of `scoremux score` and `scoremux api`, whose parts and alerts lose the rows with these ids.
        token: Whose ids these are: of rows that came with this token of the API, or of files if it is empty. None
            where no id may be of two.
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
        whose = f" of the token {self.token}" if self.token else ""
        return ", ".join(filter(None, (f"{len(self.ids):,} ids{whose}" if self.ids else "", older)))


@dataclass
class Erased:
    """The numbers of erased rows, answers and digests, and the refusals.

    Attributes:
        answers: Those that the API would give again.
        outputs: Rows of files that jobs wrote.
        refusals: Rows that were not erased, and why.
    """

    rows: int = 0
    answers: int = 0
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
        named, others = _of_token(connection, request)
        last = _last_before(connection, request.before)
        older = responses.rows_where(connection, ROW.id <= last, ROW.state.not_in((*PAPERS, ERASED)))
        for row in chain(named, older):
            rows.add(row.id)
            texts.add(row.text)
            names.add(row.name)
        if waiting := responses.count_open_alerts(connection, rows):
            raise InputError(f"{waiting:,} of these responses have an alert that nobody has handled; handle it first")
        answers = api_rows.answers_with(connection, names, request.before, request.token)
    _erase_in_files(request, texts, erased, others)
    with database.write() as connection:
        erased.answers = api_rows.delete_answers(connection, answers)
    erased.rows = _erase_rows(database, sorted(rows), by)
    _note(database, by, str(request), erased.rows, erased.digests)
    erased.refusals += (f"the database says: {line}; let its owner do it" for line in database.compact())
    return erased


def _of_token(connection: Connection, request: ErasureRequest) -> tuple[list[Any], set[str]]:
    """Return the rows that have the ids and are the token's, and the names of batches that are not the token's.

    Raises InputError where no token is given, and an id is one of several.
    """
    named = [*api_rows.rows_with_names(connection, set(request.ids))]
    batches = api_rows.batches_of(connection)
    if request.token is not None:
        named = [row for row in named if row.token == request.token]
        return named, {batch for batch, token in batches.items() if token != request.token}
    owners: dict[str, set[str]] = {name: set() for name in request.ids}
    for row in named:
        owners[row.name].add(row.token)
    for token, _, answered in api_rows.answered(connection, owners.keys()):
        for name in answered:
            owners[name].add(token)
    for folder in request.outputs:
        for job in JobFolder.below(folder):
            owner = next((batches[part] for part in job.folder.parts if part in batches), "")
            for name in owners.keys() & {*job.ids()}:
                owners[name].add(owner)
    if several := sorted(name for name, tokens in owners.items() if len(tokens) > 1):
        name = several[0]
        tokens = ", ".join(f"--token {token}" if token else "--token '' (from files)" for token in sorted(owners[name]))
        raise InputError(
            f"{len(several):,} of these ids are of responses of several tokens, which may be of different students; "
            f"nothing was erased: say whose to erase, of {name!r}: {tokens}"
        )
    return named, set()


def _erase_in_files(request: ErasureRequest, texts: Collection[str], erased: Erased, others: set[str]) -> None:
    keys = {None, request.audit_key}
    digests = {text_digest(sent, key) for text in texts for sent in _as_sent(text) for key in keys}
    for path in request.audit_logs:
        erased.digests += erase_digests(path, digests, request.before)
    for folder in request.outputs:
        jobs = (job for job in JobFolder.below(folder) if not others.intersection(job.folder.parts))
        erased.outputs += sum(job.erase(request.ids) for job in jobs)
        under_way = sorted(path.parent.name for path in folder.rglob("batch_*/body.jsonl"))
        erased.refusals += (f"{batch} is under way; erase again when it has ended" for batch in under_way)


def expire(database: Database, before: float, by: str, *, with_rows: bool = True) -> tuple[int, int]:
    """Erase what the API has from before a time: settled rows, stored answers, and what was sent to webhooks.

    Rows that wait to be read, or have an open alert, stay until the next time. Returns how many rows were erased, and
    how many answers and deliveries.
    """
    with database.write() as connection:
        answers = api_rows.expire_answers(connection, before)
        rows = api_rows.expired_rows(connection, before) if with_rows else ()
    erased = _erase_rows(database, rows, by)
    if erased or answers:
        old = ErasureRequest(before=datetime.fromtimestamp(before, timezone.utc))
        _note(database, by, f"settled rows of the API, {old}", erased, 0)
        database.empty_log()
    return erased, answers


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
