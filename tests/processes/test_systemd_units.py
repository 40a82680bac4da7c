"""The units of systemd, as `scoremux files systemd` writes them: their commands, as a user without rights."""

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from doors import Place, backend_of, needs_haproxy
from scoremux_client import Response, ScoringClient
from waiting import free_endpoints, free_port, until

SCOREMUX = Path(sys.executable).with_name("scoremux")
NOBODY = 65534
PATHS = ("/etc/scoremux", "/srv/scoremux", "/var/lib/scoremux", "/var/log/scoremux")
pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user"),
    needs_haproxy,
]


def write_units(folder: Path) -> None:
    subprocess.run([SCOREMUX, "files", "systemd", folder / "units"], check=True, stdout=subprocess.DEVNULL)


def started_as(unit: str, folder: Path) -> list[str]:
    """Return a unit's command, with its paths in a folder."""
    text = (folder / f"units/scoremux-{unit}.service").read_text()
    assert re.search("^User=scoremux$", text, re.MULTILINE)
    found = re.search("^ExecStart=(.+)$", text, re.MULTILINE)
    assert found and found[1].startswith(str(SCOREMUX))
    for path in PATHS:
        found = re.search("^.+$", found[0].replace(path, str(folder / path[1:])).removeprefix("ExecStart="))
        assert found
    return shlex.split(found[0])


IN_ITS_PLACE = (
    'mkdir -p "$0/open$1" && mount --bind "$1" "$0/open$1" && mount --rbind "$0/open$2" "$2" && shift 2 && exec "$@"'
)
"""A folder that is closed to others shows Python alone, in this process's own view of the files."""


def as_nobody(words: list[str], folder: Path, **options: Any) -> subprocess.Popen[bytes]:
    """Start a command as systemd does: another user and folder, and the variables that a service has."""
    (folder / "run").mkdir(exist_ok=True, mode=0o700)
    os.chown(folder / "run", NOBODY, NOBODY)
    variables = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "RUNTIME_DIRECTORY": f"{folder}/run"}
    words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *words]
    python = Path(sys.base_prefix)
    if closed := [parent for parent in python.parents if not parent.stat().st_mode & stat.S_IXOTH]:
        place = str(folder / "place")
        words = ["unshare", "--mount", "sh", "-c", IN_ITS_PLACE, place, str(python), str(closed[-1]), *words]
    return subprocess.Popen(words, cwd="/", env=variables, **options)


@contextmanager
def running(words: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("ab") as log:
        process = as_nobody(words, folder, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(75)


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=2).status == 200
    except OSError:
        return False


def test_door_server_api_and_desk_start_as_a_user_without_rights(small_repository: Path, tmp_path: Path) -> None:
    ports, api, desk = free_endpoints(), free_port(), free_port()
    etc, log = tmp_path / "etc/scoremux", tmp_path / "log"
    for path in (*PATHS, "/tmp"):
        (tmp_path / path[1:]).mkdir(parents=True)
    place = Place(etc, [backend_of(ports)], api=f"127.0.0.1:{api}")
    shutil.copytree(small_repository, tmp_path / "srv/scoremux/repository")
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    for parent in (tmp_path, *tmp_path.parents)[:3]:
        parent.chmod(0o755)
    write_units(tmp_path)
    own = [f"--set={name}_port={getattr(ports, name)}" for name in ("grpc", "http", "metrics", "watch")]
    with ExitStack() as stack:
        server = stack.enter_context(running([*started_as("serve", tmp_path), *own], tmp_path))
        until(lambda: answers(f"{ports.watch_url}/readyz"), server, log.read_text)
        stack.enter_context(running(started_as("front-door", tmp_path), tmp_path))
        words = [word.replace("localhost:8001", ports.grpc_url) for word in started_as("api", tmp_path)]
        platform = stack.enter_context(running([*words, f"--port={api}"], tmp_path))
        reading = stack.enter_context(running([*started_as("review", tmp_path), f"--port={desk}"], tmp_path))
        until(lambda: answers(f"http://127.0.0.1:{api}/healthz"), platform, log.read_text)
        until(lambda: answers(f"http://127.0.0.1:{desk}/login"), reading, log.read_text)
        client = stack.enter_context(ScoringClient(place.url("grpcs"), tls=place.tls, token=place.everything))
        assert [one.status for one in client.score([Response("t-1", "the router")])] == ["OK"]


@pytest.mark.parametrize("key", ["key", "tokens", "grant_key"])
def test_file_of_root_is_named_with_its_key(key: str, tmp_path: Path) -> None:
    place = Place(tmp_path)
    for parent in (tmp_path, *tmp_path.parents)[:3]:
        parent.chmod(0o755)
    files = {"key": tmp_path / "door.key", "tokens": tmp_path / "tokens.json", "grant_key": tmp_path / "grant.key"}
    for name, file in files.items():
        file.chmod(0o600 if name == key else 0o644)
    process = as_nobody([str(SCOREMUX), "front-door", str(place.file)], tmp_path, stderr=subprocess.PIPE)
    said = process.communicate(timeout=60)[1].decode()
    why = "cannot be read: Permission denied; the user that runs the door must own it"
    assert said == f"scoremux: {place.file}: {key}: {files[key]} {why}\n"
