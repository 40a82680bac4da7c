"""One database, SQLite or PostgreSQL, with one writer at a time.

Every change takes the database's write lock first (SQLite: BEGIN IMMEDIATE, PostgreSQL: an advisory lock) and commits
once. The record needs that order anyway, since each entry holds the digest of the one before; leases and decisions get
their safety from it.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from scoremux_desk.database.guards import create_guards
from scoremux_desk.database.migrations import migrate
from scoremux_desk.database.schema import FORMAT, SETTING, changed, inserted, metadata, people, rows, settings
from scoremux_desk.errors import DatabaseError, OutdatedError
from scoremux_files import InputError, writing

__all__ = ["Connection", "Database"]

_FORMAT_KEY = "format"
_WRITE_LOCK = 0x5C0DE5
_BUSY_S = 30
_POOL: dict[str, Any] = {
    "pool_size": 16,
    "max_overflow": 0,
    "pool_timeout": _BUSY_S,
    "hide_parameters": True,  # an error must not show a response's text
}
_LEVELS = ("READ COMMITTED", "REPEATABLE READ")
"""Of PostgreSQL, for those who write and those who read."""
_POSTGRESQL = ("postgresql", "postgres")
_WITH_TEXTS = ("rows", "remarks", "decisions", "anchors", "tasks", "api_rows")
_STILL_HELD = "the rows are erased, but the files of the database still hold them"


class Database:
    """Connections to one database. `clock` gives seconds since the epoch."""

    def __init__(self, name: str, clock: Callable[[], float] = time.time, *, create: bool = False) -> None:
        """Open the database, and bring its tables up to this version's format.

        Args:
            name: A file for SQLite, or a URL such as ``postgresql://user@host/desk``.
            clock: Returns the time, in seconds.
            create: Make the file, and the tables if there are none.

        Raises:
            InputError: it cannot be opened, or holds no desk.
        """
        self.now = clock
        self._in_process = threading.Lock()
        new_file = None if "://" in name or Path(name).exists() else Path(name)
        if new_file is not None and not create:
            raise _no_desk(_shown(name))
        self._new_files = _files_of(new_file) if new_file else []  # to remove with the tables
        self.engine = _engine(name)
        file = self._file_number
        # A writer must see what was committed before it got the lock, whatever the server's own default is.
        written, read = ({}, {}) if self.is_sqlite else ({"isolation_level": level} for level in _LEVELS)
        self._writing = self.engine.execution_options(writes=True, **written)
        self._reading = self.engine.execution_options(**read)
        self.is_new = False
        self.removed = ""
        """What was dropped from a database of an earlier version, and where it is kept; empty if it was nothing."""
        try:
            with self._only_writer() as connection:
                if self._file_number != file:
                    self._new_files = []
                    raise DatabaseError("another process, which made it, has removed it meanwhile; run this again")
                is_new, removed = _prepare_tables(connection, _shown(name), create, self._beside)
            self.is_new, self.removed = is_new, removed  # only now are the tables there
        except DatabaseError as error:
            self.close()
            if "locked" not in str(error):  # by another process, which makes the tables
                self._remove_files()
            raise InputError(f"the database {_shown(name)} cannot be opened: {error}") from error

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @property
    def _file_number(self) -> int:
        """The number of SQLite's file; 0 where it was removed, and for PostgreSQL."""
        return self._beside.stat().st_ino if self.is_sqlite and self._beside.exists() else 0

    @property
    def _beside(self) -> Path:
        """The path of a file; for PostgreSQL its name in the working directory."""
        name = Path(str(self.engine.url.database))
        return name if self.is_sqlite else Path(name.name)

    def is_there(self) -> None:
        """Return if the database answers. Raises DatabaseError."""
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the database and changes nothing."""
        with _mapped(), self._reading.connect() as connection, connection.begin():
            yield connection.execution_options(began_at=self.now())

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection that is the only writer; an error undoes everything. Raises OutdatedError."""
        with self._only_writer() as connection:
            if (stored := _stored_format(connection)) != str(FORMAT):
                raise OutdatedError(
                    f"the database has format {stored} by now, and this version of scoremux knows {FORMAT}; nothing "
                    "was changed: run the version that changed it"
                )
            yield connection

    @contextmanager
    def _only_writer(self) -> Iterator[Connection]:
        # SQLite's own waiting is by polling; within a process, writers take turns without it.
        turn: Any = self._in_process if self.is_sqlite else nullcontext()
        with _mapped(), turn, self._writing.begin() as connection:
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITE_LOCK})
            yield connection.execution_options(began_at=self.now())

    def compact(self) -> list[str]:
        """Rewrite the tables, so that nothing that was deleted is left in the files; return the database's refusals.

        Raises:
            DatabaseError: someone else reads or writes for too long, or the disk is too full for the copy.
        """
        refusals: list[str] = []
        try:
            with self.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                driver: Any = connection.connection.driver_connection
                if self.is_sqlite:
                    _compact_sqlite(driver)
                else:
                    driver.add_notice_handler(lambda notice: refusals.append(notice.message_primary))
                    # Statistics of the planner have values of the columns.
                    for table in (*_WITH_TEXTS, "pg_statistic"):
                        driver.execute(f"VACUUM (FULL, ANALYZE) {table}")
        # The driver is called directly, so its errors are not SQLAlchemy's.
        except (DBAPIError, PoolTimeoutError, self.engine.dialect.loaded_dbapi.Error) as error:
            raise DatabaseError(f"{_STILL_HELD}; run this again ({_reason(error)})") from None
        return refusals

    def empty_log(self) -> None:
        """Move what is in SQLite's log of changes, a file of its own, into the database. Raises DatabaseError."""
        if self.is_sqlite:
            with _mapped(), self.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                _empty_log(connection.connection.driver_connection)

    def close(self) -> None:
        self.engine.dispose()

    def remove_new(self) -> None:
        """Close the database; remove the file or tables that opening it made, unless they have people or rows."""
        if self.is_new:
            with suppress(DatabaseError), self._only_writer() as connection:
                if not any(connection.scalar(select(table.c.id).limit(1)) for table in (people, rows)):
                    metadata.drop_all(connection)  # of a file too: a process that has it open must not write to it
                    if not self.is_sqlite:
                        connection.execute(text("DROP FUNCTION record_only_grows"))
                    # As the writer: a process that waits to write sees then that the file is gone.
                    self._remove_files()
        self.close()

    def _remove_files(self) -> None:
        for file in self._new_files:
            file.unlink(missing_ok=True)


def _no_desk(name: str) -> InputError:
    return InputError(f"{name} holds no desk; `scoremux review add SCORED --database NAME` makes one")


def _prepare_tables(connection: Connection, name: str, create: bool, beside: Path) -> tuple[bool, str]:
    """Create the tables, or bring older ones up to our format, as `migrate` does. Raises InputError.

    Returns:
        Whether they are new, and what was dropped.
    """
    if not inspect(connection).has_table(people.name):
        if not create:
            raise _no_desk(name)
        metadata.create_all(connection)
        create_guards(connection)
        inserted(connection, settings, key=_FORMAT_KEY, value=str(FORMAT))
        return True, ""
    removed = migrate(connection, _stored_format(connection), beside)
    if removed is None:
        raise InputError(
            f"the database {name} was made by another version of scoremux; open it with that version, or export from "
            "it there and add the scored files to a new one: scoremux review add SCORED --database NEW"
        )
    changed(connection, settings, SETTING.key == _FORMAT_KEY, value=str(FORMAT))
    return False, removed


def _stored_format(connection: Connection) -> str:
    stored = select(SETTING.value).where(SETTING.key == _FORMAT_KEY)
    return str(connection.scalar(stored))


@contextmanager
def _mapped() -> Iterator[None]:
    """Turn errors of the database into ours, without the values that it may show."""
    try:
        yield
    except DBAPIError as error:
        raise DatabaseError(f"the database says: {_reason(error)}; nothing was changed") from None
    except PoolTimeoutError:
        raise DatabaseError("the database is busy; nothing was changed") from None
    except UnicodeEncodeError:
        raise DatabaseError("a word that was given is not UTF-8; nothing was changed") from None


def _reason(error: Exception) -> str:
    """Return the first line of a database's message."""
    original = getattr(error, "orig", None) or error
    diagnosis = getattr(original, "diag", None)  # of PostgreSQL, whose details show whole rows
    return getattr(diagnosis, "message_primary", None) or str(original).strip().partition("\n")[0]


def _engine(name: str) -> Engine:
    if "://" not in name:
        _make_private(Path(name))
        engine = create_engine(
            f"sqlite:///{Path(name).absolute()}", connect_args={"timeout": _BUSY_S, "check_same_thread": False}, **_POOL
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        url = make_url(name)
        if url.get_backend_name() not in _POSTGRESQL:
            raise InputError(f"{_shown(name)}: a database is a file (SQLite) or a postgresql:// URL")
        url = url.set(drivername="postgresql+psycopg")
        return create_engine(url, pool_pre_ping=True, **_POOL)
    except (ArgumentError, NoSuchModuleError) as error:
        raise InputError(f"{_shown(name)} is not a database URL") from error


def _make_private(path: Path) -> None:
    """Create a database file that only its user reads, or take others' right to read it away. Raises InputError."""
    with writing(path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        for file in _files_of(path):
            if file.exists() and file.stat().st_mode & 0o077:
                file.chmod(0o600)


def _files_of(path: Path) -> list[Path]:
    return [path.with_name(f"{path.name}{end}") for end in ("", "-wal", "-shm")]


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where we say
    settings = {
        "journal_mode": "WAL",
        "synchronous": "FULL",  # a decision that was answered survives a power cut
        "foreign_keys": "ON",
        "cache_size": -65_536,
        "temp_store": "MEMORY",
        "secure_delete": "ON",  # erased rows are overwritten in the file, too; `empty_log` empties the log of changes
    }
    for name, value in settings.items():
        connection.execute(f"PRAGMA {name} = {value}")


def _compact_sqlite(driver: Any) -> None:
    driver.execute("PRAGMA temp_store = FILE")  # the copy may be larger than the memory
    driver.execute("VACUUM")
    driver.execute("PRAGMA temp_store = MEMORY")
    _empty_log(driver)


def _empty_log(driver: Any) -> None:
    deadline = time.monotonic() + _BUSY_S
    while driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() > deadline:
            raise DatabaseError(f"{_STILL_HELD}; run this again (a reader keeps the log of changes)")
        time.sleep(0.2)


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _shown(name: str) -> str:
    """Return a database's name without its password."""
    return make_url(name).render_as_string(hide_password=True) if "://" in name else name
