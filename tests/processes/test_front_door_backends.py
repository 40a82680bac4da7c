"""Which Tritons a real HAProxy asks: ready ones, over verified TLS; and what it says when none answers in time."""

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from pydantic import ValidationError

from doors import KEY, Place, needs_haproxy, statistics
from making import ROOT
from peers import answer, listening, running
from scoremux_client import NO_RETRIES, DeadlineError, Response, ScoringClient, UnavailableError
from scoremux_server.front_door import haproxy_config
from scoremux_server.front_door.config import DOOR_HEADER, I_KNOW, Backend, FrontDoorConfig, door_mark
from scoremux_server.front_door.haproxy import find_program
from scoremux_server.profile import LOOPBACK
from scoremux_server.triton.endpoints import ARITHMETIC_HEADER
from stands import Small, Watched, ask, small_backend
from waiting import free_port, until

NAME = "triton.example"


@contextmanager
def encrypted_backend(authority: trustme.CA, name: str = NAME) -> Iterator[dict[str, str]]:
    """Yield the addresses of a backend that speaks TLS alone, with a certificate for `name`."""
    made = authority.issue_cert(name)
    pair = (made.private_key_pem.bytes(), b"".join(part.bytes() for part in made.cert_chain_pems))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.configure_cert(context)
    web = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Small,), {"ready": 200}))
    web.socket = context.wrap_socket(web.socket, server_side=True)
    with running(web), listening(answer, grpc.ssl_server_credentials([pair])) as url:
        at = f"127.0.0.1:{web.server_port}"
        yield {"grpc": url, "http": at, "ready": at}


@pytest.fixture
def authority_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(str(tmp_path / "backends.pem"))
    return tmp_path / "backends.pem"


@needs_haproxy
def test_backend_over_verified_tls(tmp_path: Path, authority: trustme.CA, authority_file: Path) -> None:
    with encrypted_backend(authority) as addresses:
        place = Place(tmp_path, [Backend(name="far", ca=authority_file, server_name=NAME, **addresses)])
        with place.open():
            with ScoringClient(place.url("grpcs"), tls=place.tls, token=place.everything, retries=NO_RETRIES) as client:
                assert client.score([Response("t-1", "5")])[0].level == 5
            assert ask(place, place.everything) == (200, "127.0.0.1")


@needs_haproxy
@pytest.mark.parametrize("wrong", ["name", "authority", "plaintext"])
def test_unverified_backend_gets_nothing(
    tmp_path: Path, authority: trustme.CA, authority_file: Path, wrong: str
) -> None:
    with ExitStack() as stack:
        if wrong == "plaintext":
            at = f"127.0.0.1:{stack.enter_context(small_backend())}"
            addresses = {"grpc": stack.enter_context(listening(answer)), "http": at, "ready": at}
        else:
            issuer, name = (trustme.CA(), NAME) if wrong == "authority" else (authority, "other.example")
            addresses = stack.enter_context(encrypted_backend(issuer, name))
        place = Place(tmp_path, [Backend(name="far", ca=authority_file, server_name=NAME, **addresses)])
        with place.open(wait=False) as door:
            until(lambda: {row["status"] for row in statistics(door) if row["svname"] == "far"} == {"DOWN"})
            time.sleep(1)  # further checks do not find it ready either
            assert {row["status"] for row in statistics(door) if row["svname"] == "far"} == {"DOWN"}
            assert ask(place, place.everything)[0] == 503
            with (
                ScoringClient(place.url("grpcs"), tls=place.tls, token=place.everything, retries=NO_RETRIES) as client,
                pytest.raises(UnavailableError),
            ):
                client.score([Response("t-1", "5")])


@needs_haproxy
def test_the_example_puts_tls_in_front_of_a_triton(tmp_path: Path, authority: trustme.CA, authority_file: Path) -> None:
    text = (ROOT / "server_config" / "proxy" / "triton-tls.cfg").read_text()
    authority.issue_cert(NAME).private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "triton.pem"))
    ports = {9001: free_port(), 9000: free_port(), 9090: free_port()}
    with listening(answer) as url, small_backend() as web:
        inner = {8001: url.rpartition(":")[2], 8000: web, 8003: web}
        for documented, port in {**ports, **inner}.items():
            assert f":{documented}" in text
            text = text.replace(f":{documented}", f"127.0.0.1:{port}" if documented in ports else f":{port}")
        (tmp_path / "triton-tls.cfg").write_text(text)
        terminator = subprocess.Popen([str(find_program()), "-f", "triton-tls.cfg"], cwd=tmp_path)
        try:
            where = {key: f"localhost:{ports[port]}" for key, port in (("grpc", 9001), ("http", 9000), ("ready", 9090))}
            place = Place(tmp_path, [Backend(name="far", ca=authority_file, server_name=NAME, **where)])
            with place.open():
                with ScoringClient(place.url("grpcs"), tls=place.tls, token=place.everything) as client:
                    assert client.score([Response("t-1", "5")])[0].level == 5
                assert ask(place, place.everything)[0] == 200
        finally:
            terminator.terminate()
            terminator.wait(60)


FAR = {"grpc": "10.0.0.2:9001", "http": "10.0.0.2:9000", "ready": "10.0.0.2:9090"}
NAMED = {key: value.replace("10.0.0.2", "triton-2") for key, value in FAR.items()}
NEAR = {"grpc": "localhost:8001", "http": "[::1]:8000", "ready": "127.0.0.1:8080"}


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (FAR, "10.0.0.2 is another machine, and responses would cross the network unencrypted: give `ca`"),
        ({**NEAR, "http": "triton-2:8000"}, "triton-2 is another machine"),
        ({**FAR, "ca": "a.pem"}, "`server_name` is missing"),
        ({**NAMED, "http": "triton-3:9000", "ca": "a.pem"}, "`server_name` is missing"),
        ({**FAR, "ca": "a.pem", "server_name": NAME, "plaintext": True}, "give one of them"),
        ({**NEAR, "server_name": NAME}, "`server_name` is of use with `ca` only"),
        ({**FAR, "ca": "a.pem", "server_name": "x ssl"}, "should match pattern"),
    ],
)
def test_a_backend_without_verification_is_refused(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Backend(name="far", **keys)


def test_plaintext_is_for_loopback_or_on_request() -> None:
    assert Backend(name="near", **NEAR).ca is None
    assert Backend(name="far", plaintext=True, **FAR).ca is None
    assert Backend(name="far", ca="a.pem", **NAMED).verified_name == "triton-2"


def test_paths_of_authorities_start_at_door_toml(tmp_path: Path) -> None:
    place = Place(tmp_path, [Backend(name="far", ca="backends.pem", **NAMED)])
    config = FrontDoorConfig.read(place.file)
    assert config.backends[0].ca == tmp_path / "backends.pem"


@needs_haproxy
def test_door_takes_client_certificates_of_its_authority_alone(tmp_path: Path) -> None:
    now = datetime.now(timezone.utc)
    with small_backend() as port:
        at = f"127.0.0.1:{port}"
        place = Place(tmp_path, [Backend(name="small", grpc=at, http=at, ready=at)], client_ca="ca.pem")
        kinds = {
            "ours": (place.authority.issue_cert("grader"), True),
            "by an authority below ours": (place.authority.create_child_ca().issue_cert("grader"), True),
            "none": (None, False),
            "another authority's of the same name": (trustme.CA().issue_cert("grader"), False),
            "expired": (place.authority.issue_cert("grader", not_after=now - timedelta(hours=1)), False),
            "not valid yet": (place.authority.issue_cert("grader", not_before=now + timedelta(hours=1)), False),
        }
        with place.open():
            for kind, (certificate, welcome) in kinds.items():
                for protocol in ("http/1.1", "h2"):
                    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
                    context.set_alpn_protocols([protocol])
                    if certificate:
                        certificate.configure_cert(context)
                    assert _gets_in(context, place) == welcome, (kind, protocol)
        assert "grader" not in place.log.read_text()


def _gets_in(context: ssl.SSLContext, place: Place) -> bool:
    """Return whether the door answers anything. In TLS 1.3 a client learns of a refusal when it reads."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
    with socket.create_connection(("127.0.0.1", place.port), timeout=60) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as connection:
                is_h2 = connection.selected_alpn_protocol() == "h2"
                connection.sendall(preface if is_h2 else b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
                return bool(connection.recv(4096))
        except OSError:
            return False


pytestmark = needs_haproxy


@contextmanager
def silent(release: threading.Event) -> Iterator[Backend]:
    """A backend that is ready and answers no row before `release`."""

    class Handler(Watched):
        def do_POST(self) -> None:
            release.wait()

    def wait(_request: Any, _context: Any) -> Any:
        release.wait()

    with running(ThreadingHTTPServer((LOOPBACK, 0), Handler)) as web, listening(wait) as url:
        at = f"{LOOPBACK}:{web.server_port}"
        try:
            yield Backend(name="silent", grpc=url, http=at, ready=at)
        finally:
            release.set()


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_no_answer_in_time_is_said(tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(haproxy_config, "ANSWER_S", 1)
    release = threading.Event()
    with silent(release) as backend:
        place = Place(tmp_path, [backend])
        with place.open(), place.client(scheme, place.everything, retries=NO_RETRIES) as client:
            with pytest.raises(DeadlineError, match="no Triton behind the front door answered within 300 s"):
                client.score([Response("t-1", "a")])
            release.set()


FLOAT32, INT8 = {ARITHMETIC_HEADER: "x86-f32"}, {ARITHMETIC_HEADER: "vnni-int8-bf16"}
SAFE, UNSAFE = ({DOOR_HEADER: door_mark(KEY, safe=safe)} for safe in (True, False))
BACKENDS: dict[str, tuple[int, dict[str, str]]] = {
    "safe": (200, {**SAFE, **FLOAT32}),
    "unsafe": (200, {**UNSAFE, **FLOAT32}),
    "int8": (200, {**SAFE, **INT8}),
    "other-key": (200, {DOOR_HEADER: door_mark(b"another key of at least 32 bytes", safe=True), **FLOAT32}),
    "no-grants": (200, FLOAT32),
    "without-content": (204, {**SAFE, **FLOAT32}),
    "not-ready": (503, {**SAFE, **FLOAT32}),
}
OPEN = {"address": "0.0.0.0"}


@pytest.mark.parametrize(
    ("keys", "ready"),
    [
        ({}, {"safe", "unsafe"}),
        ({"arithmetic": "any"}, {"safe", "unsafe", "int8"}),
        ({"arithmetic": "vnni-int8-bf16"}, {"int8"}),
        (OPEN, {"safe"}),
        ({**OPEN, "i_know": I_KNOW}, {"safe", "unsafe"}),
    ],
)
def test_only_a_ready_fitting_triton_gets_requests(tmp_path: Path, keys: dict[str, Any], ready: set[str]) -> None:
    """A Triton that ignored the grant would score every task for every token."""
    with ExitStack() as stack:
        at = {
            name: f"{address}:{stack.enter_context(small_backend(address, ready=status, headers=headers))}"
            for number, (name, (status, headers)) in enumerate(BACKENDS.items(), 2)
            for address in [f"127.0.0.{number}"]
        }
        place = Place(tmp_path, [Backend(name=name, grpc=where, http=where, ready=where) for name, where in at.items()])
        place.configure(**keys)
        door = stack.enter_context(place.open())

        def up() -> set[str]:
            return {row["svname"] for row in statistics(door) if row["svname"] in at and row["status"] == "UP"}

        until(lambda: up() == ready, shown=up)  # all are taken for ready until they are asked the first time
        answering = {(200, at[name].partition(":")[0]) for name in ready}
        until(lambda: {ask(place, place.everything) for _ in range(8)} == answering)
        log = place.log.read_text()
        assert "it does not check grants of this door's key" in log
        assert ("its arithmetic is not" in log) == ("any" not in keys.values())
