"""What one request may cost the front door, a real HAProxy: time, memory, rows of a rate, a body where none belongs."""

from __future__ import annotations

import fnmatch
import http.client
import json
import random
import re
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2

from benchmarks.malformed import packed
from doors import Place, bearer, needs_haproxy
from http_peers import running
from peers import listening
from scoremux_client import contract
from scoremux_server.front_door.config import Backend
from scoremux_server.front_door.door import FrontDoor
from scoremux_server.front_door.runtime_api import workers

pytestmark = needs_haproxy
INFER = "/v2/models/scorer/infer"
ROWS = contract.MAX_BATCH_ROWS
BODY = 2_000_000


class Web(ThreadingHTTPServer):
    """A backend that is ready, takes every request, and counts the bytes of what comes."""

    request_queue_size = 256
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[str] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a door that hangs up


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Web

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.server.requests.append(self.path)
        self.rfile.read(int(self.headers["content-length"] or 0))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None: ...


class Stand:
    """A door, and tokens by name."""

    def __init__(self, place: Place, door: FrontDoor, web: Web, tokens: Mapping[str, str]) -> None:
        self.place, self.door, self.web, self.tokens = place, door, web, tokens

    def post(self, token: str, body: bytes, path: str = INFER, **headers: str) -> tuple[int, str]:
        context = self.place.tls.context()
        connection = http.client.HTTPSConnection("localhost", self.place.port, context=context, timeout=30)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("POST", path, body, {**bearer(self.tokens[token]), **named})
            answered = connection.getresponse()
            return answered.status, answered.read().decode()
        finally:
            connection.close()

    def worker_mib(self) -> int:
        """The resident memory of HAProxy's workers."""
        statuses = (Path(f"/proc/{pid}/status").read_text() for pid in workers(self.door._master.socket))
        return sum(int(re.search(r"VmRSS:\s+(\d+)", status)[1]) for status in statuses) >> 10  # type: ignore[index]


@contextmanager
def stand(
    folder: Path, rates: Mapping[str, int] = {}, patterns: Mapping[str, str] = {}, **keys: Any
) -> Iterator[Stand]:
    def infer(_request: Any, _context: Any) -> Any:
        return service_pb2.ModelInferResponse()

    with running(Web()) as web, listening(infer, threads=8) as url:
        at = f"127.0.0.1:{web.server_port}"
        place = Place(folder, [Backend(name="peer", grpc=url, http=at, ready=at)], **keys)
        tokens = {name: place.tokens.add(name, ["t-*"], rate, 1) for name, rate in rates.items()}
        tokens |= {name: place.tokens.add(name, [pattern], 0, 1) for name, pattern in patterns.items()}
        with place.open() as door:
            yield Stand(place, door, web, {**tokens, "everything": place.everything})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    patterns = {"ours": "t-*", "stars": "en-*-2024-*-b", "aaa": "*a*a*b", "inner": "a*b*", "one": "en-1"}
    with stand(tmp_path_factory.mktemp("door"), patterns=patterns) as made:
        yield made


def rows(tasks: list[str], texts: list[str] | None = None) -> bytes:
    shape, texts = [len(tasks), 1], texts or ["a"] * len(tasks)
    columns = {"TEXT": texts, "TASK": tasks}
    inputs = [{"name": name, "datatype": "BYTES", "shape": shape, "data": data} for name, data in columns.items()]
    return json.dumps({"inputs": inputs}).encode()


def message(tasks: list[bytes], texts: list[bytes] | None = None) -> Any:
    request = service_pb2.ModelInferRequest(model_name="scorer")
    for name, values in (("TEXT", texts or [b"a"] * len(tasks)), ("TASK", tasks)):
        request.inputs.add(name=name, datatype="BYTES", shape=[len(values), 1])
        request.raw_input_contents.append(packed(values))
    return request


def send(shared: Stand, body: bytes, token: str = "ours", method: str = "ModelInfer") -> tuple[grpc.StatusCode, str]:
    roots = grpc.ssl_channel_credentials((shared.place.folder / "ca.pem").read_bytes())
    with grpc.secure_channel(f"localhost:{shared.place.port}", roots) as channel:
        call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}", lambda b: b, lambda b: b)
        try:
            call(body, metadata=list(bearer(shared.tokens[token]).items()), timeout=20)
        except grpc.RpcError as error:
            return error.code(), error.details()
    return grpc.StatusCode.OK, ""


# Time


def test_a_task_longer_than_any_is_refused_at_once(shared: Stand) -> None:
    for token, task in (("stars", "en" + "-2024-" * 300_000), ("aaa", "a" * 200_000)):
        started = time.monotonic()
        status, said = shared.post(token, rows([task]))
        assert status == 403 and "may not score" in said
        assert send(shared, message([task.encode()]).SerializeToString(), token)[0] is grpc.StatusCode.PERMISSION_DENIED
        assert time.monotonic() - started < 3
    assert shared.door.restarts == 0


def test_the_longest_tasks_are_matched_without_a_way_back(shared: Stand) -> None:
    tasks = [f"{'a' * (128 - len(str(number)))}{number}" for number in range(ROWS)]
    started = time.monotonic()
    assert shared.post("aaa", rows(tasks))[0] == 403
    assert shared.post("aaa", rows([f"{'a' * 120}-{number}-b@{'0' * 64}" for number in range(ROWS)]))[0] == 200
    assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("token", ["stars", "aaa", "inner", "one"])
def test_stars_stand_for_any_letters(shared: Stand, token: str) -> None:
    pattern = {"stars": "en-*-2024-*-b", "aaa": "*a*a*b", "inner": "a*b*", "one": "en-1"}[token]
    draw = random.Random(token)
    pieces = [*pattern.replace("*", " ").split(), "a", "b", "-", "2024", "en-", "en-1"]
    for _ in range(150):
        task = "".join(draw.choices(pieces, k=draw.randint(1, 7)))
        if re.fullmatch(contract.TASK_ID_PATTERN, task):
            allowed = fnmatch.fnmatchcase(task, pattern)
            assert shared.post(token, rows([task]))[0] == (200 if allowed else 403), task


# Memory


def test_what_a_request_is_made_of_costs_no_memory(shared: Stand) -> None:
    bombs = {
        "lists": b'{"inputs":[' + b"[]," * (BODY // 3) + b"[]]}",
        "nested": b'{"inputs":[' + b"[[[[[[]]]]]]," * (BODY // 13) + b"[]]}",
        "numbers": b'{"inputs":[' + b"1," * (BODY // 2) + b"1]}",
        "keys": b"{" + b",".join(b'"%06d":0' % number for number in range(BODY // 11)) + b"}",
        "strings": b'{"inputs":[{"name":"TEXT","data":[' + b'"",' * (BODY // 3) + b'""]}]}',
        "escapes": b'{"id":"' + b"\\u0041" * (BODY // 6) + b'"}',
    }
    shared.post("ours", rows(["t-1"], ["a" * BODY]))
    before = shared.worker_mib()
    for name, body in bombs.items():
        for _ in range(2):
            status, said = shared.post("ours", body)
            assert (status, "failed to read it" in said) == (400, False), (name, said)
    messages = [service_pb2.ModelInferRequest(model_name="scorer") for _ in range(2)]
    for _ in range(BODY // 2):
        messages[0].inputs.add()
        messages[1].raw_input_contents.append(b"")
    for one in (*messages, message([b""] * (BODY // 8), [b""] * (BODY // 8))):
        assert send(shared, one.SerializeToString())[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert shared.worker_mib() - before < 40 and shared.door.restarts == 0


def test_the_largest_requests_that_are_allowed_pass_together(shared: Stand) -> None:
    escaped = rows(["t-1"] * ROWS, ["\u3042" * 600] * ROWS)
    nested = json.loads(rows(["t-1"] * ROWS, ["b" * 3800] * ROWS))
    for tensor in nested["inputs"]:
        tensor["data"] = [[value] for value in tensor["data"]]
    bodies = [escaped, json.dumps(nested).encode(), rows(["t-1@" + "0" * 64] * ROWS, ["\u3042" + "c" * 3700] * ROWS)]
    assert all(1_800_000 < len(body) < 2 << 20 for body in bodies)
    big = message([b"t-1"] * ROWS, [b"d" * 3900] * ROWS).SerializeToString()
    answers: list[object] = []

    def job(number: int) -> None:
        body = bodies[number % 3]
        answers.append(send(shared, big)[0] if number % 4 == 3 else shared.post("ours", body)[0])

    threads = [threading.Thread(target=job, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(answers) == {200: 18, grpc.StatusCode.OK: 6}


def test_texts_end_where_json_says_whatever_is_in_them(shared: Stand) -> None:
    draw = random.Random(7)
    letters = ['"', "\\", "\n", "]", ",", "t", "\u3042", "\U0001f600", "\x07", " "]
    for length in (0, 1, 190, 192, 193, 194, 195, 400, 5_000):
        for weights in ([1] * 10, [5, 5, *[1] * 8], [0, 1, *[0] * 8], [1, *[0] * 9]):
            texts = ["".join(draw.choices(letters, weights, k=length)) for _ in range(4)]
            assert shared.post("ours", rows(["t-1"] * 4, texts))[0] == 200, (length, weights)
            assert shared.post("ours", rows(["t-1", "t-2", "secret", "t-3"], texts))[0] == 403, (length, weights)


@pytest.mark.parametrize(("long", "sentence"), [("\\", "well-formed"), ("\n", "control"), ("", "well-formed")])
def test_long_texts_that_are_no_json_are_refused(shared: Stand, long: str, sentence: str) -> None:
    body = rows(["t-1"], ["MARK"]).decode().replace("MARK", "a" * 300 + (long or '"'))
    status, said = shared.post("ours", body.encode())
    assert status == 400 and sentence in said


def test_a_field_of_no_number_is_none_of_the_protocols(shared: Stand) -> None:
    good = message([b"t-1"]).SerializeToString()
    assert send(shared, good)[0] is grpc.StatusCode.OK
    assert send(shared, good + b"\x02\x00")[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_rows_are_as_many_as_triton_takes(shared: Stand) -> None:
    assert shared.post("ours", rows(["t-1"] * ROWS))[0] == 200
    assert send(shared, message([b"t-1"] * ROWS).SerializeToString())[0] is grpc.StatusCode.OK
    for count, sentence in ((ROWS + 1, f"it has more than {ROWS} rows"), (0, "it has no rows")):
        status, said = shared.post("ours", rows(["t-1"] * count))
        assert status == 400 and sentence in said
        code, said = send(shared, message([b"t-1"] * count).SerializeToString())
        assert code is grpc.StatusCode.INVALID_ARGUMENT and sentence in said


def test_braces_are_no_brackets(shared: Stand) -> None:
    good = rows(["t-1"]).decode()
    for old, new in (
        ('"inputs"', '"parameters": [], "inputs"'),
        ('"inputs"', '"outputs": {}, "inputs"'),
        ('"inputs"', '"outputs": [[]], "inputs"'),
        ('"name": "TASK"', '"parameters": [], "name": "TASK"'),
        ('["t-1"]', "{}"),
        ("[1, 1]", "{}"),
    ):
        status, said = shared.post("ours", good.replace(old, new, 1).encode())
        assert status == 400 and "the front door cannot read the request" in said, new
    for old, new in (('"inputs"', '"parameters": {}, "inputs"'), ('"inputs"', '"outputs": [], "inputs"')):
        assert shared.post("ours", good.replace(old, new, 1).encode())[0] == 200


# Rates


def head(token: str, method: str = "POST", path: str = INFER, more: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n{more}\r\n".encode()


def test_bodies_that_come_late_do_not_pass_a_rate(tmp_path: Path) -> None:
    body = rows(["t-1"] * 500)
    with stand(tmp_path, {"slow": 1}) as made:
        connections = [made.place.connect() for _ in range(20)]
        for connection in connections:
            connection.sendall(head(made.tokens["slow"], more=f"content-length: {len(body)}\r\n"))
        time.sleep(0.5)
        answers = []
        for connection in connections:
            connection.sendall(body)
            answers.append(connection.recv(4096).split(b" ")[1])
            connection.close()
        assert Counter(answers) == {b"200": 1, b"429": 19}
        assert len(made.web.requests) == 1


def test_what_is_refused_for_its_content_costs_a_row(tmp_path: Path) -> None:
    with stand(tmp_path, {"tasks": 1, "bytes": 1}) as made:
        for token, body, status in (("tasks", rows(["en-1"]), 403), ("bytes", b"{}", 400)):
            answers = [made.post(token, body)[0] for _ in range(12)]
            assert Counter(answers) == {status: 10, 429: 2}
            assert made.post(token, rows(["t-1"]))[0] == 429
        assert not made.web.requests


def test_a_token_revoked_while_a_body_is_waited_for_is_revoked(tmp_path: Path) -> None:
    body = rows(["t-1"])
    with stand(tmp_path, {"guest": 0}) as made, made.place.connect() as connection:
        connection.sendall(head(made.tokens["guest"], more=f"content-length: {len(body)}\r\n"))
        made.place.tokens.revoke("guest")
        deadline = time.monotonic() + 5
        while made.post("guest", body)[0] != 401:
            assert time.monotonic() < deadline
        connection.sendall(body)
        assert connection.recv(4096).startswith(b"HTTP/1.1 401")


# Bodies where there should be none, and other URIs


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_other_requests_have_no_body(shared: Stand, method: str) -> None:
    before = len(shared.web.requests)
    for more in ("transfer-encoding: chunked\r\n", "content-length: 5\r\n", "content-length: 99999999\r\n"):
        with shared.place.connect() as connection:
            connection.sendall(head(shared.tokens["ours"], method, "/v2/health/live", more))
            heard = connection.recv(4096)
            assert heard.startswith(b"HTTP/1.1 400") and (method == "HEAD" or b"may have no body" in heard), more
    assert len(shared.web.requests) == before
    with shared.place.connect() as connection:
        connection.sendall(head(shared.tokens["ours"], method, "/v2/health/live"))
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content


def literal(name: str, value: str) -> bytes:
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def heard_until(sentence: bytes, connection: ssl.SSLSocket) -> None:
    heard = b""
    while sentence not in heard:
        part = connection.recv(4096)
        assert part, heard
        heard += part


@pytest.mark.parametrize("pause_s", [0, 0.3])
@pytest.mark.parametrize("length", [None, "3000"])
def test_other_requests_have_no_body_over_http2_either(shared: Stand, length: str | None, pause_s: float) -> None:
    before = len(shared.web.requests)
    told = {":method": "GET", ":scheme": "https", ":authority": "x", ":path": "/v2/health/live"}
    told |= bearer(shared.tokens["ours"])
    if length:
        told["content-length"] = length
    headers = b"".join(literal(name, value) for name, value in told.items())
    with shared.place.connect("h2") as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, headers))
        time.sleep(pause_s)
        connection.sendall(frame(0, 0, 1, b"A" * 1000) * 2 + frame(0, 1, 1, b"A" * 1000))
        heard_until(b"may have no body", connection)
    assert len(shared.web.requests) == before
    with shared.place.connect("h2") as connection:  # none, though its end is said late
        headers = b"".join(literal(name, value) for name, value in told.items() if name != "content-length")
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, headers))
        time.sleep(pause_s)
        connection.sendall(frame(0, 1, 1, b""))
        heard_until(b"{}", connection)


@pytest.mark.parametrize("uri", ["http://x{}", "http://a:b@x{}", "https://x:80{}", "foo://x{}", "x{}"])
def test_a_uri_begins_with_a_slash(shared: Stand, uri: str) -> None:
    before = len(shared.web.requests)
    with shared.place.connect() as connection:
        connection.sendall(head(shared.tokens["ours"], "GET", uri.format("/v2/health/live")))
        assert connection.recv(4096).split(b" ")[1] in (b"404", b"400")
    assert len(shared.web.requests) == before


def test_models_besides_the_scorer_are_not_shown_over_grpc(shared: Stand) -> None:
    for method, asked in (
        ("ModelReady", service_pb2.ModelReadyRequest),
        ("ModelMetadata", service_pb2.ModelMetadataRequest),
    ):
        for name, version, welcome in (
            ("scorer", "", True),
            ("scorer", "1", True),
            ("backbone", "", False),
            ("scorer", "2", False),
            ("", "", False),
        ):
            code, said = send(shared, asked(name=name, version=version).SerializeToString(), method=method)
            assert code is grpc.StatusCode.UNIMPLEMENTED
            assert ("does not offer this endpoint" in said) != welcome, (method, name, version)
