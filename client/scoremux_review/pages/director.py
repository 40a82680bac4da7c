"""Pages of directors: stopping tasks, people, the record, exports."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import update
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from scoremux_review import exports as leaving
from scoremux_review.database import accounts as accounts
from scoremux_review.database import log as chain
from scoremux_review.database.connection import Database
from scoremux_review.database.schema import tasks
from scoremux_review.desk_policy import Policy
from scoremux_review.errors import BrokenRecordError, ReviewError
from scoremux_review.pages.visits import Visit, see
from scoremux_review.reading import settling

_DAY_S = 86_400.0

_EXPORTS: dict[str, Callable[[Database, Path], int]] = {
    "final.parquet": leaving.export_final,
    "final.csv": leaving.export_final,
    "final.jsonl": leaving.export_final,
    "labelled.parquet": leaving.export_labelled,
    "labelled.csv": leaving.export_labelled,
    "labelled.jsonl": leaving.export_labelled,
    "lti.jsonl": leaving.export_lti,
}


def pause(visit: Visit) -> Response:
    """Stop or resume the reading of a task, or of all."""
    database, task, stop = visit.desk.database, visit.text("task"), visit.text("paused") == "1"
    with database.write() as connection:
        change = update(tasks).values(paused=stop)
        connection.execute(change.where(tasks.c.id == task) if task else change)
        action = "paused" if stop else "resumed"
        chain.append(connection, database.now(), visit.person.name, action, {"task": task or "all"})
    return see("/progress")


def reopen(visit: Visit) -> Response:
    """Reopen what one person decided."""
    person, why, days = visit.number("person"), visit.text("why").strip(), visit.number("days")
    if person is None or not why:
        raise ReviewError("say whose decisions are reopened, and why; the record keeps it")
    database = visit.desk.database
    with database.write() as connection:
        since = 0.0 if days is None else database.now() - days * _DAY_S
        number = settling.reopen_all(
            connection, visit.reader, person, visit.text("task"), since, why[:2000], database.now()
        )
        said = {"person": person, "task": visit.text("task") or "all", "days": days, "rows": number, "why": why[:2000]}
        chain.append(connection, database.now(), visit.person.name, "reopened all", said)
    return see("/progress")


def people(visit: Visit) -> Response:
    """Show the accounts."""
    with visit.desk.database.read() as connection:
        listed = accounts.listed(connection)
    least, elsewhere = accounts.MIN_PASSWORD, visit.desk.issuer is not None
    return visit.show("people.html", people=listed, roles=accounts.ROLES, least=least, elsewhere=elsewhere)


def add_person(visit: Visit) -> Response:
    """Add an account."""
    name, role, password = visit.text("name").strip(), visit.text("role"), visit.text("password")
    given = None if not password and visit.desk.issuer is not None else password
    accounts.add_person(visit.desk.database, name, role, given, visit.person.name, visit.desk.hasher)
    return see("/people")


def change_person(visit: Visit) -> Response:
    """Change a role or a password, or close an account."""
    name, role, password = visit.text("name"), visit.text("role") or None, visit.text("password") or None
    active = {"open": True, "close": False}.get(visit.text("account"))
    database = visit.desk.database
    accounts.change_person(database, name, visit.person.name, role, active, password, visit.desk.hasher)
    return see("/people")


def record(visit: Visit, message: str = "", bad: bool = False) -> Response:
    """Show the newest entries of the record, or those before a number."""
    before = visit.request.query_params.get("before", "")
    with visit.desk.database.read() as connection:
        number = int(before) if before.isascii() and before.isdecimal() and len(before) < 16 else 0
        entries = chain.entries(connection, most=100, before=number)
        head = chain.head(connection)
        policy = Policy.load(connection)
    return visit.show("record.html", entries=entries, head=head, message=message, bad=bad, policy=policy)


def verify(visit: Visit) -> Response:
    """Check the chain now."""
    try:
        with visit.desk.database.read() as connection:
            number, digest = chain.verify(connection)
    except BrokenRecordError as error:
        return record(visit, f"{str(error).capitalize()}.", bad=True)
    return record(visit, f"{number:,} entries, intact. Note this outside the desk: {number}:{digest}")


def export(visit: Visit) -> Response:
    """Say what can be exported."""
    return visit.show("export.html")


def download(visit: Visit) -> Response:
    """Write an export and send it."""
    name = visit.request.path_params["name"]
    write = _EXPORTS.get(name)
    if write is None:
        raise ReviewError("there is no such export")
    folder = tempfile.TemporaryDirectory(prefix="scoremux-export-")
    path = Path(folder.name) / name
    try:
        number = write(visit.desk.database, path)
        database = visit.desk.database
        with database.write() as connection:
            chain.append(connection, database.now(), visit.person.name, "exported", {"file": name, "rows": number})
    except BaseException:
        folder.cleanup()
        raise
    return FileResponse(path, filename=name, background=BackgroundTask(folder.cleanup))
