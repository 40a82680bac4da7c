"""A real HAProxy before a real Triton: who is let in, what is refused, and what reaches Triton of it."""

import http.client
import re
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient import grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc

from doors import Place, backend_of, bearer, granted, needs_haproxy, serving, statistics
from http_transport import HttpTransport
from making import TASKS
from scoremux_client import NO_RETRIES, Response, Scored, ScoringClient, served_tasks
from scoremux_client.errors import RejectedError, TransportError, UnavailableError
from scoremux_server.triton.server import TritonServer
from stands import rows
from waiting import side_by_side, until
from watching import RESTRICTED, responses

pytestmark = needs_haproxy
LIMIT = 1 << 16


@dataclass
class Guarded:
    place: Place
    server: TritonServer
    tokens: dict[str, str]

    @contextmanager
    def client(self, token: str | None, scheme: str = "grpcs", **keys: Any) -> Iterator[ScoringClient]:
        with self.place.client(scheme, token, retries=NO_RETRIES, timeout_s=60, **keys) as client:
            yield client

    def counters(self) -> tuple[Any, ...]:
        with triton.InferenceServerClient(self.server.endpoints.grpc_url) as admin:
            (model,) = admin.get_inference_statistics("scorer").model_stats
        counted = model.inference_stats.success.count, model.inference_stats.fail.count, model.inference_count
        return *counted, *(row["stot"] for row in statistics(self.place) if row["svname"] == "BACKEND")

    @contextmanager
    def nothing_reaches_triton(self) -> Iterator[None]:
        before, equal = self.counters(), 0
        while equal < 5:  # Triton counts a request some time after its answer
            time.sleep(0.1)
            before, earlier = self.counters(), before
            equal = equal + 1 if before == earlier else 0
        yield
        assert self.counters() == before


@pytest.fixture(scope="module")
def guarded(small_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("front")
    with serving(small_repository, folder / "triton.log") as server:
        place = Place(folder, [backend_of(server.endpoints)], request_bytes=LIMIT)
        tokens = {"everything": place.everything, "one": place.tokens.add("one", ["t-1"], 0, 1)}
        tokens["late"] = place.tokens.add("late", ["*"], 0, 1)
        tokens["wrong"] = "smx_" + "x" * 43
        place.expire("late")
        with place.open():
            yield Guarded(place, server, tokens)


def score(guarded: Guarded, token: str | None, rows: list[Response], scheme: str = "grpcs") -> list[Scored]:
    with guarded.client(token, scheme) as client:
        return client.score(rows)


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_rows_are_scored_as_without_a_door(guarded: Guarded, scheme: str) -> None:
    rows = [*responses(150), Response("t-9", "a"), Response("", ""), Response("t-1", b"\xff")]
    with ScoringClient(guarded.server.endpoints.grpc_url, headers=granted()) as client:
        expected = client.score(rows)
    assert {s.status for s in expected} == {"OK", "UNKNOWN_TASK", "INVALID_TASK", "INVALID_TEXT"}
    assert list(map(repr, score(guarded, guarded.tokens["everything"], rows, scheme))) == list(map(repr, expected))


def test_without_a_token_that_holds_nothing_is_let_in(guarded: Guarded) -> None:
    tokens = (None, "", guarded.tokens["wrong"], guarded.tokens["late"])
    with guarded.nothing_reaches_triton():
        for token, scheme in product(tokens, ("grpcs", "https")):
            with pytest.raises(RejectedError, match="token is missing, unknown, expired"):
                score(guarded, token, responses(3), scheme)


def test_a_token_lists_its_own_tasks_only(guarded: Guarded) -> None:
    """Which rows it scores: `test_permission.py`."""
    listed = served_tasks(guarded.place.url("grpcs"), tls=guarded.place.tls, token=guarded.tokens["one"])
    assert [(task.id, len(task.levels)) for task in listed] == [("t-1", 5)]


def test_requests_of_different_tokens_share_a_batch_and_keep_their_own_permissions(guarded: Guarded) -> None:
    rows = [Response(task, f"{number} router") for number in range(8) for task in TASKS]
    got: dict[str, list[list[Scored]]] = {"one": [], "everything": []}

    def load(token: str) -> None:
        with guarded.client(guarded.tokens[token]) as client:
            got[token].extend(client.score(rows) for _ in range(10))

    side_by_side(load, list(got) * 3)
    assert len(got["one"]) == len(got["everything"]) == 30
    assert all(one.ok for scored in got["everything"] for one in scored)
    assert all(one.ok == (one.task == "t-1") for scored in got["one"] for one in scored)


def test_a_request_that_cannot_be_read_fails_no_other(guarded: Guarded) -> None:
    good, bad = rows(["t-1"]), rows(["t-1"]).replace(b'{"inputs"', b'{"parameters": {"x": "\xff"}, "inputs"')
    answers: list[tuple[bytes, int, str]] = []

    def load(body: bytes) -> None:
        answers.extend((body, *call(guarded, "POST", "/v2/models/scorer/infer", body)) for _ in range(30))

    side_by_side(load, (good, bad) * 3)
    assert len(answers) == 180
    assert {status for body, status, _ in answers if body == good} == {200}
    assert {(status, "not UTF-8" in text) for body, status, text in answers if body == bad} == {(400, True)}


def test_forbidden_rows_are_counted(guarded: Guarded) -> None:
    score(guarded, guarded.tokens["one"], [Response("t-1", "counted"), Response("t-3", "counted")])
    series = re.compile(
        r'scoremux_rows_total\{[^}]*FORBIDDEN_TASK[^}]*task="_unknown"|task="_unknown"[^}]*FORBIDDEN_TASK'
    )
    until(lambda: bool(series.search(fetched(guarded.server.endpoints.metrics_url))))


def fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_oversized_requests_are_refused(guarded: Guarded, scheme: str) -> None:
    token = guarded.tokens["everything"]
    assert score(guarded, token, [Response("t-1", "a " * (LIMIT // 2 - 1000))], scheme)[0].ok
    with guarded.nothing_reaches_triton():
        for size in (LIMIT, 2 * LIMIT, 40 * LIMIT):
            with pytest.raises(RejectedError, match="larger than max"):
                score(guarded, token, [Response("t-1", "a " * (size // 2))], scheme)


def call(guarded: Guarded, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPSConnection(
        "localhost", guarded.place.port, context=guarded.place.context(), timeout=60
    )
    connection.request(method, path, body, {**bearer(guarded.tokens["everything"]), **headers})
    answer = connection.getresponse()
    status, text = answer.status, answer.read().decode()
    connection.close()
    return status, text


ABSENT = (
    *RESTRICTED,
    ("GET", "/v2/models/scorer/config"),
    ("GET", "/v2/models/scorer/stats"),
    ("GET", "/v2/models/backbone"),
    ("POST", "/v2/models/backbone/infer"),
    ("POST", "/v2/models/scorer/generate"),
    ("POST", "/v2/models/%73corer/infer"),
    ("POST", "/v2//models/scorer/infer"),
    ("POST", "/v2/models/x/../scorer/infer"),
    ("POST", "/v2/models/scorer/infer?x=1"),
    ("PUT", "/v2/models/scorer/infer"),
    ("GET", "/metrics"),
    ("GET", "/"),
)


def test_other_http_endpoints_are_not_there_but_what_clients_may_ask(guarded: Guarded) -> None:
    with guarded.nothing_reaches_triton():
        for (method, path), headers in product(ABSENT, ({}, {"scoremux-key": guarded.server._key})):
            status, text = call(guarded, method, path, b"{}" if method != "GET" else None, **headers)
            assert (status, "does not offer this endpoint" in text) == (404, True), (method, path)
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/scorer/ready", "/v2", "/v2/models/scorer"):
        assert call(guarded, "GET", path)[0] == 200
    assert call(guarded, "GET", "/v2/health/live", authorization="Bearer x")[0] == 401
    with channel(guarded) as stub:
        metadata = list(bearer(guarded.tokens["everything"]).items())
        assert stub.ServerReady(service_pb2.ServerReadyRequest(), metadata=metadata).ready
        asked = service_pb2.ModelMetadataRequest(name="scorer")
        assert [tensor.name for tensor in stub.ModelMetadata(asked, metadata=metadata).inputs] == ["TEXT", "TASK"]


@contextmanager
def channel(guarded: Guarded) -> Iterator[Any]:
    roots = (guarded.place.folder / "ca.pem").read_bytes()
    with grpc.secure_channel(f"localhost:{guarded.place.port}", grpc.ssl_channel_credentials(roots)) as made:
        yield service_pb2_grpc.GRPCInferenceServiceStub(made)


def test_other_grpc_endpoints_are_not_there(guarded: Guarded) -> None:
    calls: dict[str, Any] = {
        "RepositoryIndex": service_pb2.RepositoryIndexRequest(),
        "RepositoryModelLoad": service_pb2.RepositoryModelLoadRequest(model_name="scorer"),
        "RepositoryModelUnload": service_pb2.RepositoryModelUnloadRequest(model_name="scorer"),
        "SystemSharedMemoryRegister": service_pb2.SystemSharedMemoryRegisterRequest(name="x", key="/x"),
        "CudaSharedMemoryStatus": service_pb2.CudaSharedMemoryStatusRequest(),
        "TraceSetting": service_pb2.TraceSettingRequest(),
        "LogSettings": service_pb2.LogSettingsRequest(),
        "ModelConfig": service_pb2.ModelConfigRequest(name="scorer"),
        "ModelStatistics": service_pb2.ModelStatisticsRequest(),
        "ModelStreamInfer": iter([service_pb2.ModelInferRequest(model_name="scorer")]),
    }
    headers = {**bearer(guarded.tokens["everything"]), "triton-grpc-protocol-scoremux-key": guarded.server._key}
    with channel(guarded) as stub, guarded.nothing_reaches_triton():
        for name, request in calls.items():
            with pytest.raises(grpc.RpcError) as refused:
                answer = getattr(stub, name)(request, metadata=list(headers.items()), timeout=60)
                list(answer)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED, name


def test_nothing_is_said_without_encryption(guarded: Guarded) -> None:
    with guarded.nothing_reaches_triton():
        for scheme in ("grpc", "http"):
            url, token = guarded.place.url(scheme), guarded.tokens["everything"]
            keys = {"retries": NO_RETRIES, "timeout_s": 60}
            plain = ScoringClient(url, token=token, **keys) if scheme == "grpc" else None
            with (
                plain or ScoringClient(HttpTransport(url, token=token), **keys) as client,
                pytest.raises(UnavailableError),
            ):
                client.score(responses(1))
        old = guarded.place.context()
        old.maximum_version = old.minimum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with socket.create_connection(("127.0.0.1", guarded.place.port)) as raw, pytest.raises(ssl.SSLError):
            old.wrap_socket(raw, server_hostname="localhost")
    with guarded.place.connect() as secured:
        assert secured.version() in ("TLSv1.2", "TLSv1.3")


def dawdle(dawdler: socket.socket, within_s: float = 60.0) -> bytes:
    """Send a byte now and then; return what was heard when the connection was closed, or a response was complete."""
    dawdler.settimeout(0.3)
    deadline, heard = time.monotonic() + within_s, b""
    while b"\r\n\r\n" not in heard:
        assert time.monotonic() < deadline
        try:
            dawdler.sendall(b"x")
            part = dawdler.recv(4096)
        except TimeoutError:
            continue
        except OSError:
            return heard
        if not part:
            return heard
        heard += part
    return heard


def never(end: threading.Event) -> Iterator[bytes]:
    """Yield nothing until the end."""
    end.wait(60)
    yield from ()


def test_who_dawdles_is_cut_off(guarded: Guarded, tmp_path: Path) -> None:
    place = Place(tmp_path, [backend_of(guarded.server.endpoints)], client_s=1)
    with place.open():
        dawdle_at(Guarded(place, guarded.server, {"everything": place.everything}))


def dawdle_at(guarded: Guarded) -> None:
    headers = "".join(f"{name}: {value}\r\n" for name, value in bearer(guarded.tokens["everything"]).items())
    start = f"POST /v2/models/scorer/infer HTTP/1.1\r\nhost: x\r\n{headers}"
    with guarded.nothing_reaches_triton():
        with socket.create_connection(("127.0.0.1", guarded.place.port)) as raw:
            raw.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")  # the beginning of a handshake
            assert b"HTTP" not in dawdle(raw)
        with guarded.place.connect() as secured:
            secured.sendall(f"{start}x: ".encode())
            assert dawdle(secured).startswith(b"HTTP/1.1 408")
        with guarded.place.connect() as secured:
            secured.sendall(f"{start}content-length: 100\r\n\r\n".encode())
            assert dawdle(secured).startswith(b"HTTP/1.1 408")
        end, roots = threading.Event(), grpc.ssl_channel_credentials((guarded.place.folder / "ca.pem").read_bytes())
        with grpc.secure_channel(f"localhost:{guarded.place.port}", roots) as made, pytest.raises(grpc.RpcError) as cut:
            call = made.stream_unary("/inference.GRPCInferenceService/ModelInfer", lambda b: b, lambda b: b)
            call(never(end), metadata=list(bearer(guarded.tokens["everything"]).items()), timeout=60)
        end.set()
        assert "408" in cut.value.details()
        with guarded.place.connect("h2") as secured:
            secured.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0" + b"\0\0\xff\x01\0\0\0\0\x01")
            assert b"200" not in dawdle(secured)


def test_tokens_come_and_go_on_connections_that_stay(guarded: Guarded) -> None:
    tokens = guarded.place.tokens
    made = tokens.add("guest", ["t-*"], 0, 1)
    guarded.place.reload()
    with guarded.client(made) as over_grpc, guarded.client(made, "https") as over_http:
        clients = (over_grpc, over_http)
        until(lambda: all(is_let_in(client) for client in clients))
        tokens.revoke("guest")
        guarded.place.reload()
        until(lambda: not any(is_let_in(client) for client in clients))
    with guarded.nothing_reaches_triton(), pytest.raises(RejectedError, match="revoked"):
        score(guarded, made, responses(1))


def is_let_in(client: ScoringClient) -> bool:
    try:
        return client.score(responses(1))[0].ok
    except RejectedError:
        return False


def test_a_reload_under_load_loses_nothing(guarded: Guarded, tmp_path: Path) -> None:
    place = Place(tmp_path, [backend_of(guarded.server.endpoints)])
    rows = responses(24)
    stop, bad, good = threading.Event(), [], []  # type: ignore[var-annotated]

    def load(scheme: str) -> None:
        # Without retries: nothing may be lost that would have to be sent again.
        with place.client(scheme, place.everything, retries=NO_RETRIES) as client:
            while not stop.is_set():
                try:
                    good.append(client.score(rows))
                except TransportError as error:
                    bad.append(error)

    with place.open():
        threads = [threading.Thread(target=load, args=(scheme,)) for scheme in ("grpcs", "https") * 2]
        for thread in threads:
            thread.start()
        for number in range(4):
            count = len(good)
            place.certify() if number % 2 else place.configure(client_s=50 + number)
            place.reload()
            until(lambda count=count: len(good) > count + 20)  # type: ignore[misc]
        stop.set()
        for thread in threads:
            thread.join()
    assert not bad, bad[:3]
    with ScoringClient(guarded.server.endpoints.grpc_url, headers=granted()) as client:
        expected = client.score(rows)
    assert len(good) > 80 and all(scored == expected for scored in good)
