"""Whose folder of batches it is: the folder holds the identity of its database, and any other database is refused.

The identity of a database that `--sandbox` made says so: the sandbox opens no other, and only the sandbox opens it.
"""

import secrets
from pathlib import Path

from sqlalchemy import select

from scoremux_desk.database.connection import Database
from scoremux_desk.database.schema import BATCH, IDENTITY, SETTING, inserted, settings
from scoremux_files import InputError, locked, replacing, writing

_SANDBOX = "sandbox-"


def claim(folder: Path, database: Database, *, sandbox: bool) -> None:
    """Make a folder that of a database. Raises InputError where it, or the database, is another's."""
    file = folder / ".database"
    with writing(folder), locked(folder / ".lock"), database.write() as connection:
        owner = file.read_text(encoding="utf-8").strip() if file.exists() else ""
        with_scores = {scores.parent.name for scores in folder.glob("batch_*/scores")}
        knows = bool(with_scores.intersection(connection.scalars(select(BATCH.id))))
        identity = connection.scalar(select(SETTING.value).where(SETTING.key == IDENTITY))
        is_new = identity is None
        # A database of an earlier version, or a backup of one, is that of the batches that it knows.
        if identity is None:
            identity = owner if knows and owner else (_SANDBOX if sandbox else "") + secrets.token_hex(16)
        if sandbox != identity.startswith(_SANDBOX) or (sandbox and is_new and not database.is_new):
            wants = "the sandbox decides rows: give it" if sandbox else "--sandbox made this database: give"
            raise InputError(f"{wants} a --database of its own, such as a new file")
        if (owner or with_scores) and owner != identity and (owner or not knows):
            raise InputError(
                f"--folder {folder} has batches of another database than --database; nothing was changed: give the "
                "database that it belongs to, or another folder"
            )
        if is_new:
            inserted(connection, settings, key=IDENTITY, value=identity)
        if not owner:
            with replacing(file, 0o600) as aside:
                aside.write_text(identity, encoding="utf-8")
