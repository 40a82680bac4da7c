"""`scoremux review erase`, `erasures` and `backup`."""

import getpass
import os
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

from rich.console import Console
from typer import Argument, Option

from scoremux_desk.people_commands import Where, opened, say
from scoremux_files import InputError, reading
from scoremux_files.terminal import print_table


def erase(
    database: Where,
    ids: Annotated[Path | None, Option(help="File with an id a line.")] = None,
    one_id: Annotated[list[str] | None, Option("--id", help="An id; may be given again.")] = None,
    before: Annotated[
        str | None, Option(help="Everything older than this day or time (UTC), such as 2026-01-31.")
    ] = None,
    token: Annotated[
        str | None,
        Option(
            help="Whose ids they are: a namespace of `scoremux api` (a token's name, unless it has another), '' for "
            "rows of files, or '*' for all; needed if they repeat."
        ),
    ] = None,
    audit_logs: Annotated[list[Path] | None, Option("--audit-log", help="Audit log of a server.")] = None,
    audit_key_file: Annotated[Path | None, Option(help="The key of its digests, if they have one.")] = None,
    responses: Annotated[
        list[Path] | None, Option(help="File that was scored: texts of the ids that the desk does not have.")
    ] = None,
    outputs: Annotated[list[Path] | None, Option(help="Folder that `scoremux score` wrote; repeatable.")] = None,
    by: Annotated[str | None, Option(help="Who erases, for the record (default: this user).")] = None,
) -> None:
    """Erase texts and ids from the desk and audit logs. Run it again if it was interrupted.

    Later exports have none of these rows. The page of the desk has the query that removes them from other files.

    Example: scoremux review erase --ids ids.txt --audit-log audit.jsonl --database reviews.db
    """
    from scoremux_batch.jobs import texts_of
    from scoremux_desk import erasure
    from scoremux_files import read_key

    names = {*(one_id or ()), *(_lines(ids) if ids else ())}
    request = erasure.ErasureRequest(
        names,
        before=_time(before) if before else None,
        audit_logs=audit_logs or (),
        audit_key=read_key(audit_key_file) if audit_logs and audit_key_file else None,
        texts=texts_of(responses or (), names),
        outputs=outputs or (),
        token=token,
    )
    with closing(opened(database)) as desk:
        erased = erasure.erase(desk, request, by or _user())
    say(f"the desk: {erased.rows:,} rows erased")
    if outputs:
        say(f"outputs: {erased.outputs:,} rows erased")
    if audit_logs:
        say(f"audit logs: {erased.digests:,} digests erased")
    for refusal in erased.refusals:
        say(refusal)


def erasures(database: Where) -> None:
    """List what was erased, when and by whom.

    Example: scoremux review erasures --database reviews.db
    """
    from scoremux_desk.database import log

    rows = []
    with opened(database).read() as connection:
        for entry in log.entries_of(connection, log.ERASURE):
            counts = f"{entry.body['rows']:,}", f"{entry.body['digests']:,}"
            rows.append((entry.at[:16].replace("T", " "), entry.by, entry.body["asked"], *counts))
    columns = ("when (UTC)", "by", "asked", "rows", "digests")
    print_table(Console(highlight=False), columns, rows, numbers=("rows", "digests"), fold=("asked",))


def backup(
    database: Where, to: Annotated[str, Argument(help="A new file, or the URL of an empty PostgreSQL database.")]
) -> None:
    """Copy a database, also while people work, and verify the copy. To restore, copy it back or open it.

    Example: scoremux review backup /backups/reviews-friday.db --database reviews.db
    """
    from scoremux_desk.database.connection import Database
    from scoremux_desk.database.verification import copy_database

    if "://" not in to and Path(to).exists():
        raise InputError(f"{to} exists; name a new file")
    source = Database(database)
    target = Database(to, create=True)
    try:
        number, digest = copy_database(source, target)
    except BaseException:
        target.remove_new()
        raise
    target.close()
    say(f"{to}: {number:,} entries, intact")
    print(f"{number}:{digest}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may have no names
        return f"user {os.getuid()}"


def _lines(path: Path) -> list[str]:
    with reading(path):
        # Not `splitlines`: an id may have characters that it takes for the end of a line.
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]


def _time(word: str) -> datetime:
    try:
        time = datetime.fromisoformat(word)
        return (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise InputError(f"--before is {word}; it is a day or time such as 2026-01-31 or 2026-01-31T12:00") from None
