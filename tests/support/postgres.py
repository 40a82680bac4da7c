"""A PostgreSQL of the test's own: a real server in a temporary folder, on a Unix socket."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

_NOBODY = 65534


def programs() -> Path | None:
    """Return the folder with initdb and postgres, None if this machine has none."""
    found = shutil.which("initdb")
    if found and shutil.which("postgres"):
        return Path(found).parent
    return next((path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)), None)


@contextmanager
def running() -> Iterator[str]:
    """Run a server, as nobody where this process is root; give the URL of an empty database."""
    folder = programs()
    assert folder is not None, "no PostgreSQL here: ask programs() first"
    home = Path(tempfile.mkdtemp(prefix="scoremux-postgres-", dir="/tmp"))
    if os.geteuid() == 0:
        os.chown(home, _NOBODY, _NOBODY)
    try:
        _run(home, "initdb", "-U", "desk", "-A", "trust", "-E", "UTF8", "--no-sync")
        url = f"postgresql://desk@/postgres?host={quote(str(home), safe='')}"
        start(url)
        try:
            yield url
        finally:
            stop(url, check=False)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def start(url: str) -> None:
    """Start a server that is not running; it goes on with the data that it has."""
    home = _home(url)
    settings = f"-k {home} -c listen_addresses= -c max_connections=120 -c shared_buffers=64MB"
    _run(home, "pg_ctl", "-w", "-t", "240", "-o", settings, "-l", str(home / "log"), "start")


def stop(url: str, *, check: bool = True) -> None:
    """Stop a server as a crash does."""
    _run(_home(url), "pg_ctl", "-w", "-t", "240", "-m", "immediate", "stop", check=check)


def pid_of(url: str) -> int:
    return int((_home(url) / "data/postmaster.pid").read_text().split()[0])


def _home(url: str) -> Path:
    return Path(unquote(url.partition("host=")[2]))


def _run(home: Path, program: str, *words: str, check: bool = True) -> None:
    folder = programs()
    assert folder is not None
    as_nobody = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}
    options = {"cwd": home, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **as_nobody}
    command = [str(folder / program), "-D", str(home / "data"), *words]
    subprocess.run(command, check=check, **options)  # type: ignore[call-overload]


@contextmanager
def database_name(kind: str, folder: Path) -> Iterator[str]:
    """Give the name of a new database: a file in the folder for `sqlite`, else a server's URL.

    Skips the test where there is no PostgreSQL.
    """
    if kind == "sqlite":
        yield str(folder / "reviews.db")
        return
    if programs() is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    with running() as url:
        yield url


def load(url: str, dump: Path) -> None:
    folder = programs()
    assert folder is not None, "no PostgreSQL here: ask programs() first"
    subprocess.run(["psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(dump), url], check=True, capture_output=True)
