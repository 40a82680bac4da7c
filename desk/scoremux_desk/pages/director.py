"""Pages of directors: stopping tasks, people, the record, exports."""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from scoremux_desk import exports
from scoremux_desk.database import accounts, log, programme, responses, verification
from scoremux_desk.database.connection import Database
from scoremux_desk.errors import BrokenRecordError, ReviewError
from scoremux_desk.pages.leader import why
from scoremux_desk.pages.rendering import clock, show
from scoremux_desk.pages.visits import Visit, see
from scoremux_desk.reading import settling

_DAY_S = 86_400.0
_MOST_ENTRIES = 100
_NOT_SHOWN = ("row", "decision", "lead", "remark", "note", "why")

_EXPORTS: dict[str, Callable[[Database, Path], int]] = {
    f"{name}.{suffix}": write
    for name, write in (("final", exports.export_final), ("labelled", exports.export_labelled))
    for suffix in ("parquet", "csv", "jsonl")
}


def pause(visit: Visit) -> Response:
    """Stop or resume the reading of a task, or of all."""
    task = visit.text("task")
    stop = visit.text("paused") == "1"
    with visit.writing() as access:
        programme.pause_tasks(access.connection, task, stop, access.by)
    return see("/progress")


def reopen(visit: Visit) -> Response:
    """Reopen what one person decided."""
    person, days = visit.number("person"), visit.number("days")
    reason, task = why(visit), visit.text("task")
    if person is None:
        raise ReviewError("say whose decisions are reopened")
    with visit.writing() as access:
        since = 0.0 if days is None else access.now - days * _DAY_S
        chosen = responses.settled_by(access.connection, person, task, since)
        for row in chosen:
            settling.reopen(access, row, reason)
        body = {"person": person, "task": task or "all", "days": days, "rows": len(chosen), "why": reason}
        access.log("reopened all", body)
    return see("/progress")


def people(visit: Visit) -> Response:
    with visit.reading() as connection:
        return show(
            visit,
            "people.html",
            people=accounts.listed(connection),
            roles=accounts.ROLES,
            least=accounts.MIN_PASSWORD,
            elsewhere=bool(visit.desk.user_header),
        )


def add_person(visit: Visit) -> Response:
    desk = visit.desk
    typed = visit.text("password")
    password = None if not typed and desk.user_header else typed
    accounts.add_person(
        desk.database, visit.text("name").strip(), visit.text("role"), password, visit.person.name, desk.hasher
    )
    return see("/people")


def change_person(visit: Visit) -> Response:
    """Change a role or a password, or close an account."""
    desk = visit.desk
    accounts.change_person(
        desk.database,
        visit.text("name"),
        visit.person.name,
        role=visit.text("role") or None,
        active={"open": True, "close": False}.get(visit.text("account")),
        password=visit.text("password") or None,
        hasher=desk.hasher,
    )
    return see("/people")


def record(visit: Visit, message: str = "", bad: bool = False) -> Response:
    """Show the newest entries of the record, or those before a number."""
    before = visit.request.query_params.get("before", "")
    number = int(before) if before.isascii() and before.isdecimal() and len(before) < 16 else 0
    with visit.reading() as connection:
        entries = log.entries(connection, most=_MOST_ENTRIES, before=number)
        head = log.head(connection)
        policy = programme.load_policy(connection)
        people = {person.id: person.name for person in accounts.listed(connection)}
        named = {row.id: row.name for row in responses.rows_of(connection, {e.body["row"] for e in entries} - {None})}
    details = {entry.number: _details(entry, people) for entry in entries}
    return show(
        visit,
        "record.html",
        entries=entries,
        head=head,
        message=message,
        bad=bad,
        policy=policy,
        details=details,
        named=named,
    )


def _details(entry: log.LogEntry, people: Mapping[int, str]) -> str:
    """Return the details of an entry beside its row, as the record names them: people by name, times in UTC."""
    shown = {name: value for name, value in entry.body.items() if name not in _NOT_SHOWN and value not in (None, "")}
    for name in shown.keys() & {"person", "rater", "handled_by"}:
        shown[name] = people.get(shown[name], shown[name])
    if "members" in shown:
        shown["members"] = ", ".join(people.get(member, str(member)) for member in shown["members"])
    if "at" in shown:
        shown["at"] = clock(shown["at"])
    return "; ".join(
        f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in shown.items()
    )


def verify(visit: Visit) -> Response:
    """Compare the database with the record now."""
    try:
        with visit.reading() as connection:
            number, digest = verification.verify(connection)
    except BrokenRecordError as error:
        return record(visit, visit.sentence(error), bad=True)
    return record(visit, f"{number:,} entries, intact. Note this outside the desk: {number}:{digest}")


def export(visit: Visit) -> Response:
    return show(visit, "export.html")


def download(visit: Visit) -> Response:
    """Write an export and send it."""
    name = visit.request.path_params["name"]
    database = visit.desk.database
    write = _EXPORTS.get(name)
    if write is None:
        raise ReviewError("unknown export")
    folder = tempfile.TemporaryDirectory(prefix="scoremux-export-")
    path = Path(folder.name) / name
    try:
        number = write(database, path)
        with visit.writing() as access:
            access.log("exported", {"file": name, "rows": number})
    except BaseException:
        folder.cleanup()
        raise
    return FileResponse(path, filename=name, background=BackgroundTask(folder.cleanup))
