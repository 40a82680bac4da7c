"""A PostgreSQL of the test's own: a real server in a temporary folder, on a Unix socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

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
    as_nobody = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    if as_nobody:
        os.chown(home, _NOBODY, _NOBODY)
    data = home / "data"
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}
    options = {"cwd": home, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **as_nobody}
    try:
        command = [str(folder / "initdb"), "-D", str(data), "-U", "desk", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(command, check=True, **options)  # type: ignore[call-overload]
        control = [str(folder / "pg_ctl"), "-D", str(data), "-w", "-t", "240"]
        settings = f"-k {home} -c listen_addresses= -c max_connections=120 -c shared_buffers=64MB"
        subprocess.run([*control, "-o", settings, "-l", str(home / "log"), "start"], check=True, **options)  # type: ignore[call-overload]
        try:
            yield f"postgresql://desk@/postgres?host={quote(str(home), safe='')}"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=False, **options)  # type: ignore[call-overload]
    finally:
        shutil.rmtree(home, ignore_errors=True)
