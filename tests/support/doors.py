"""Real front doors on loopback, with certificates and tokens made for the test."""

import csv
import json
import signal
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme

from http_transport import HttpTransport
from scoremux_client import ScoringClient, Tls
from scoremux_engine.scoring.permission import HEADER, Grant
from scoremux_files.atomic import replace_file
from scoremux_server.errors import SetupError
from scoremux_server.front_door import door, haproxy
from scoremux_server.front_door.access_tokens import AccessTokenFile
from scoremux_server.front_door.config import DOOR_HEADER, Backend, door_mark
from scoremux_server.front_door.haproxy import find_program
from scoremux_server.profile import LOOPBACK
from scoremux_server.triton.endpoints import ARITHMETIC_HEADER, Endpoints
from scoremux_server.triton.server import TritonServer
from waiting import free_port, until
from watching import watched

KEY = b"the key of the grants of all these tests"
MARKED = {DOOR_HEADER: door_mark(KEY, safe=False), ARITHMETIC_HEADER: "x86-f32"}
"""What a watcher's answers have where its Triton checks grants, is the bundled one and has the default profile."""


def granted(tasks: Sequence[str] = ("*",), key: bytes = KEY, ends: float = 4e9) -> dict[str, str]:
    """Return the header that lets a request through to a Triton without a door."""
    return {HEADER: Grant("test", int(ends), tuple(tasks)).signed(key)}


def _why_not() -> str:
    try:
        find_program()
    except SetupError as error:
        return str(error)
    return ""


needs_haproxy = pytest.mark.skipif(bool(_why_not()), reason=_why_not() or "there is one")


class Place:
    """A folder with a certificate, a token file and door.toml."""

    def __init__(self, folder: Path, backends: Sequence[Backend] = (), **keys: Any) -> None:
        self.folder, self.file = folder, folder / "door.toml"
        self.authority = trustme.CA()
        self.certify()
        self.authority.cert_pem.write_to_path(folder / "ca.pem")
        self.tls = Tls(root_certificates=folder / "ca.pem")
        self.tokens = AccessTokenFile(folder / "tokens.json")
        (folder / "grant.key").write_bytes(KEY)
        self.everything = self.tokens.add("everything", ["*"], 0, 1)
        self.port = free_port()
        self.backends = backends
        self.configure(**keys)

    def certify(self, expires: datetime | None = None) -> None:
        """Write a new certificate, as a renewal does."""
        made = self.authority.issue_cert("localhost", LOOPBACK, not_after=expires)
        made.private_key_pem.write_to_path(self.folder / "door.key")
        (self.folder / "door.pem").write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))

    def expire(self, name: str, ends: datetime = datetime(2020, 1, 1, tzinfo=timezone.utc)) -> None:
        file = json.loads(self.tokens.path.read_text())
        (token,) = [token for token in file["tokens"] if token["name"] == name]
        token["ends"] = ends.isoformat()
        self.write_tokens(json.dumps(file))

    def write_tokens(self, text: str) -> None:
        """Replace the token file, whole at every moment: a door that reads half of one would say so."""
        replace_file(self.tokens.path, [text.encode()])

    def configure(self, **keys: Any) -> None:
        """Write door.toml. A watcher may take long on a machine that is busy with other tests."""
        keys = {"check_s": 60, **keys}
        paths = {"certificate": "door.pem", "key": "door.key", "grant_key": "grant.key"}
        lines = [f"{key} = {json.dumps(value)}" for key, value in {"port": self.port, **paths, **keys}.items()]
        replace_file(self.file, ["\n".join([*lines, self.backend_tables()]).encode()])

    def backend_tables(self) -> str:
        """Return the backends as door.toml names them."""
        lines = []
        for backend in self.backends:
            keys = backend.model_dump(mode="json", exclude_defaults=True)
            lines += ["[[backends]]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
        return "\n".join(lines)

    @property
    def log(self) -> Path:
        return self.folder / "haproxy.log"

    def url(self, scheme: str) -> str:
        return f"{scheme}://localhost:{self.port}"

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "ca.pem"))

    def client(self, scheme: str, token: str | None, **keys: Any) -> ScoringClient:
        """Return a client over gRPC, or over HTTP as a program without gRPC speaks it."""
        if scheme == "grpcs":
            return ScoringClient(self.url(scheme), tls=self.tls, token=token, **keys)
        return ScoringClient(HttpTransport(self.url(scheme), self.context(), token), **keys)

    def connect(self, alpn: str = "http/1.1", source: str = LOOPBACK) -> ssl.SSLSocket:
        """Return an encrypted connection to the door from an address of loopback."""
        context = self.context()
        context.set_alpn_protocols([alpn])
        return context.wrap_socket(
            socket.create_connection((LOOPBACK, self.port), timeout=60, source_address=(source, 0)),
            server_hostname="localhost",
        )

    def reload(self) -> None:
        """Have the open door load its files as they are now."""
        door.reload(self.file, self.run)

    @contextmanager
    def open(self, wait: bool = True) -> Iterator["Place"]:
        """A running front door. wait: until its backends are ready."""
        # Of tmp_path, sockets would have too long names.
        with tempfile.TemporaryDirectory(prefix="a door ") as scratch:
            self.run = Path(scratch)
            door.prepare(self.file, self.run)
            with self.log.open("ab") as log:
                process = subprocess.Popen(haproxy.command(find_program(), self.run), stdout=log, stderr=log)
            try:
                wait_for_backends(self, process) if wait else until(lambda: is_listening(self), process)
                yield self
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(60)


def bearer(token: str) -> Mapping[str, str]:
    return {"authorization": f"Bearer {token}"}


@contextmanager
def serving(
    repository: Path, log: Path, report: Callable[[str], None] = lambda _: None, **keys: Any
) -> Iterator[TritonServer]:
    """A watched Triton that is ready, with grants of `KEY`.

    One canary, unless `keys` say otherwise: its counters then stand still.
    """
    keys = {"canary_every_s": 3600.0, **keys}
    with watched(repository, log, report, grant_key=KEY, **keys) as watch:
        yield watch.server


def backend_of(endpoints: Endpoints, name: str = "own") -> Backend:
    """Return a Triton on this machine as door.toml names it."""
    http, ready = urlsplit(endpoints.http_url).netloc, urlsplit(endpoints.watch_url).netloc
    return Backend(name=name, grpc=endpoints.grpc_url, http=http, ready=ready, plaintext=True)


def is_listening(place: Place) -> bool:
    """Whether HAProxy has started."""
    try:
        return bool(statistics(place) and _said(place, "master.sock", "show proc"))  # the master executes itself again
    except OSError:
        return False


def wait_for_backends(place: Place, process: subprocess.Popen[bytes]) -> None:
    """Wait until HAProxy has found its Tritons ready."""

    def down() -> list[str]:
        backends = (row for row in statistics(place) if row["svname"] == "BACKEND")
        return [row["pxname"] for row in backends if row["status"] not in ("UP", "no check")]

    until(lambda: is_listening(place), process, place.log.read_text)
    until(lambda: not down(), process, shown=down)


def _said(place: Place, name: str, command: str) -> str:
    """Return HAProxy's answer to a command."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(3)
        connection.connect(str(place.run / name))
        connection.sendall(f"{command}\n".encode())
        connection.shutdown(socket.SHUT_WR)  # else a master waits for the next command
        with connection.makefile() as answer:
            return answer.read()


def statistics(place: Place) -> list[dict[str, str]]:
    """Return HAProxy's own counters of everything behind the door."""
    lines = _said(place, "worker.sock", "show stat").removeprefix("# ").splitlines()
    return [row for row in csv.DictReader(lines) if row["pxname"] in ("grpc", "http")]
