"""What the front door reads in a request is what the backends behind it read: a real HAProxy, and peers that record."""

from __future__ import annotations

import http.client
import json
import random
import struct
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2
from tritonclient.utils import deserialize_bytes_tensor

from doors import Place, bearer, needs_haproxy
from http_peers import running
from malformed import grpc_request, http_request, packed
from peers import listening
from scoremux_client import contract
from scoremux_server.front_door.config import Backend

pytestmark = needs_haproxy
INFER_GRPC, INFER_HTTP = "/inference.GRPCInferenceService/ModelInfer", "/v2/models/scorer/infer"
OURS = b"t-1"
Seen = list[bytes]


class Peers:
    """Backends that keep what reached them: TASK values as a protobuf or JSON library reads them."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.token = place.tokens.add("ours", ["t-*"], 0, 1)
        self.over_grpc: list[Any] = []
        self.over_http: list[tuple[bytes, str | None]] = []

    def infer_grpc(self, request: Any, _: grpc.ServicerContext) -> Any:
        self.over_grpc.append(request)
        return service_pb2.ModelInferResponse()

    def handler(self) -> type[BaseHTTPRequestHandler]:
        peers = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.send_response(200)
                self.end_headers()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                peers.over_http.append((body, self.headers["inference-header-content-length"]))
                self.reply()

            def reply(self) -> None:
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: object) -> None: ...

        return Handler

    def send_grpc(self, channel: grpc.Channel, body: bytes) -> grpc.StatusCode:
        call = channel.unary_unary(INFER_GRPC, lambda b: b, lambda b: b)
        try:
            call(body, metadata=list(bearer(self.token).items()), timeout=20)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
        return grpc.StatusCode.OK

    def send_http(
        self, connection: http.client.HTTPConnection, body: bytes, path: str = INFER_HTTP, **headers: str
    ) -> tuple[int, str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, body, {**bearer(self.token), **named})
        answered = connection.getresponse()
        return answered.status, answered.read().decode()


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    place = Place(tmp_path_factory.mktemp("door"))
    made = Peers(place)
    served = running(ThreadingHTTPServer(("127.0.0.1", 0), made.handler()))
    with served as web, listening(made.infer_grpc, threads=8) as url:
        at = f"127.0.0.1:{web.server_port}"
        place.backends = [Backend(name="peer", grpc=url, http=at, ready=at)]
        place.configure(request_bytes=1 << 20)
        with place.open():
            yield made


@pytest.fixture
def channel(peers: Peers) -> Iterator[grpc.Channel]:
    authority = (peers.place.folder / "ca.pem").read_bytes()
    address = f"localhost:{peers.place.port}"
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(authority)) as made:
        yield made


@pytest.fixture
def connection(peers: Peers) -> Iterator[http.client.HTTPConnection]:
    made = http.client.HTTPSConnection("localhost", peers.place.port, context=peers.place.tls.context(), timeout=20)
    yield made
    made.close()


def allowed(task: bytes) -> bool:
    return task == b"" or (task.startswith(b"t-") and bool(contract.TASK_PATTERN.fullmatch(task.decode("latin-1"))))


def good(tasks: list[bytes]) -> Any:
    request = service_pb2.ModelInferRequest(model_name="scorer", id="x")
    columns = {"TEXT": [b"a text"] * len(tasks), "TASK": tasks}
    for name, values in columns.items():
        request.inputs.add(name=name, datatype="BYTES", shape=[len(values), 1])
        request.raw_input_contents.append(packed(values))
    request.outputs.add(name="LEVEL")
    return request


def tasks_in(request: Any) -> Seen:
    """Return all strings that any reader could take for TASK: where several inputs are called so, those of each."""
    found: Seen = []
    for number, tensor in enumerate(request.inputs):
        if tensor.name == "TASK":
            found.extend(tensor.contents.bytes_contents)
            if number < len(request.raw_input_contents):
                found.extend(deserialize_bytes_tensor(request.raw_input_contents[number]))
    return found


def field(number: int, content: bytes) -> bytes:
    made = bytes([number << 3 | 2])
    size = len(content)
    while size > 127:
        made += bytes([size & 127 | 128])
        size >>= 7
    return made + bytes([size]) + content


def spoil(body: bytes, draw: random.Random) -> bytes:
    """Return a message's bytes with one thing changed that a lenient reader may read otherwise than a strict one."""
    forbidden = good([b"en-1"]).SerializeToString()
    at = draw.randrange(len(body))
    kinds: list[Callable[[], bytes]] = [
        lambda: body + forbidden,
        lambda: forbidden + body,
        lambda: body + field(7, packed([b"en-1"])),
        lambda: field(7, packed([b"en-1"])) + body,
        lambda: body + field(1, b"backbone"),
        lambda: body + field(5, field(1, b"TASK") + field(2, b"BYTES")),
        lambda: body + field(4, field(1, b"priority")),
        lambda: body + b"\x08\x07",  # a field that is a number
        lambda: body + b"\x0b\x0c",  # a group
        lambda: body + b"\xba\x80\x80\x80\x00\x00",  # raw_input_contents under a number written too long
        lambda: body[:at] + bytes([draw.randrange(256)]) + body[at + 1 :],
        lambda: body[:at] + draw.randbytes(draw.randint(1, 4)) + body[at:],
        lambda: body[:at] + body[at + draw.randint(1, 9) :],
        lambda: body.replace(b"t-1", b"en1"),
        lambda: body.replace(b"TASK", b"TEXT"),
        lambda: body.replace(struct.pack("<I", 3), struct.pack("<I", draw.choice((0, 2, 4, 2**31, 2**32 - 1)))),
    ]
    return draw.choice(kinds)()


def test_grpc_requests_are_read_as_protobuf_reads_them(peers: Peers, channel: grpc.Channel) -> None:
    codes: dict[grpc.StatusCode, int] = {}
    for seed in range(1500):
        draw = random.Random(seed)
        if seed % 3:
            kinds = [OURS, b"t-1@" + b"0" * 64, b"", b"en-1", b"t-1\0en-1"]
            tasks = draw.choices(kinds, (12, 3, 2, 1, 1), k=draw.randint(1, 9))
            body = good(tasks).SerializeToString()
            for _ in range(draw.choice((0, 1, 1, 2))):
                body = spoil(body, draw)
        else:
            body = grpc_request(seed).SerializeToString()
        if len(body) < 1 << 20:
            code = peers.send_grpc(channel, body)
            codes[code] = codes.get(code, 0) + 1
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED}
    assert min(codes.values()) > 50
    assert len(peers.over_grpc) == codes[grpc.StatusCode.OK]
    for request in peers.over_grpc:
        assert request.model_name == "scorer"
        assert all(map(allowed, tasks_in(request)))
        assert not request.parameters and not any(o.parameters for o in request.outputs)


def json_body(tasks: list[str], **more: Any) -> dict[str, Any]:
    shape = [len(tasks), 1]
    return {
        "inputs": [
            {"name": "TEXT", "datatype": "BYTES", "shape": shape, "data": ["a text"] * len(tasks)},
            {"name": "TASK", "datatype": "BYTES", "shape": shape, "data": tasks},
        ],
        **more,
    }


def binary_body(tasks: list[bytes], texts: list[bytes]) -> tuple[bytes, int]:
    columns = {"TEXT": packed(texts), "TASK": packed(tasks)}
    inputs = [
        {"name": name, "datatype": "BYTES", "shape": [len(tasks), 1], "parameters": {"binary_data_size": len(data)}}
        for name, data in columns.items()
    ]
    outputs = [{"name": "LEVEL", "parameters": {"binary_data": True}}]
    header = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    return header + b"".join(columns.values()), len(header)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(json_body(["t-1", "t-2", ""])),
        json.dumps(json_body(["t-1"], id="mine", parameters={"binary_data_output": True}, outputs=[{"name": "LEVEL"}])),
        json.dumps(json_body(["t-1"])).replace('["t-1"]', ' [ [ "\\u0074\\u002d1" ] ] \n'),
        json.dumps(json_body(["t-1"])).replace("a text", '\\ud83d\\ude00 \\" \\\\ \\/ \\n \x7f ü'),
    ],
)
def test_json_that_the_protocol_allows_passes(peers: Peers, connection: http.client.HTTPConnection, body: str) -> None:
    before = len(peers.over_http)
    assert peers.send_http(connection, body.encode()) == (200, "{}")
    assert peers.over_http[before:] == [(body.encode(), None)]


@pytest.mark.parametrize(
    ("old", "new", "status", "sentence"),
    [
        ('"t-1"', '"en-1"', 403, "may not score"),
        ('"t-1"', '"\\u0065n-1"', 403, "may not score"),
        ('"t-1"', '"t-1\\u0000en-1"', 403, "may not score"),
        ('"data": ["t-1"]', '"data": ["t-1"], "data": ["en-1"]', 400, "a key twice"),
        ('"data": ["t-1"]', '"data": ["t-1"], "d\\u0061ta": ["en-1"]', 400, "a key twice"),
        ('"shape": [1, 1], "data": ["t-1"]', '"shape": [2, 1], "data": ["t-1"]', 400, "as long as its shape"),
        ('"data": ["t-1"]', '"data": ["t-1", ["en-1"]]', 400, "as long as its shape"),
        ('"data": ["t-1"]', '"data": [[["t-1"]]]', 400, "nested too deeply"),
        ('"data": ["t-1"]', '"data": {"0": "t-1"}', 400, "another form"),
        ('"data": ["t-1"]', '"data": [1]', 400, "another form"),
        ('"data": ["t-1"]', '"parameters": {"shared_memory_region": "x"}', 400, "parameters"),
        ('"data": ["t-1"]', '"data": ["t-1"], "parameters": {"binary_data_size": 4}', 400, "data twice"),
        ('"data": ["t-1"]', '"parameters": {"binary_data_size": 7}', 400, "breaks off"),
        ('{"name": "TASK"', '{"name": "TEXT"', 400, "not TEXT and TASK"),
        ('"BYTES", "shape": [1, 1], "data": ["t-1"]', '"INT64", "shape": [1, 1], "data": ["t-1"]', 400, "not BYTES"),
        ('"a text"', "null", 400, "a value that"),
        ('"a text"', "1e3", 400, "a value that"),
        ('"a text"', '"a\ttext"', 400, "control character"),
        ('"a text"', '"\\ud800"', 400, "escape"),
        ('"a text"', '"\\x"', 400, "escape"),
        ('"inputs"', '"parameters": {"timeout": 1}, "inputs"', 400, "parameters"),
        ('"inputs"', '"outputs": [{"name": "S", "parameters": {"classification": 1}}], "inputs"', 400, "parameters"),
        ('{"inputs"', '{} {"inputs"', 400, "follows"),
        ("]}", "]}]", 400, "not well-formed"),
        ("}]}", "}]} x", 400, "follows"),
        ("}]}", "", 400, "not well-formed"),
    ],
)
def test_json_that_readers_might_read_otherwise_is_refused(
    peers: Peers, connection: http.client.HTTPConnection, old: str, new: str, status: int, sentence: str
) -> None:
    body = json.dumps(json_body(["t-1"]))
    assert old in body
    before = len(peers.over_http)
    answered = peers.send_http(connection, body.replace(old, new, 1).encode())
    assert answered[0] == status and sentence in json.loads(answered[1])["error"]
    assert len(peers.over_http) == before


def test_binary_tensors_are_read_to_the_last_byte(peers: Peers, connection: http.client.HTTPConnection) -> None:
    texts = [b"one", b"\xff\x00", b""]
    body, size = binary_body([OURS, b"t-2", b""], texts)
    wrong, wrong_size = binary_body([OURS, b"en-1", OURS], texts)
    before = len(peers.over_http)

    def send(body: bytes, size: int | str) -> tuple[int, str]:
        return peers.send_http(connection, body, inference_header_content_length=str(size))

    assert send(body, size)[0] == 200
    assert send(wrong, wrong_size)[0] == 403
    for spoiled in (body[:-1], body + b"x", body[:size] + b"\xff\xff\xff\xff" + body[size + 4 :]):
        assert send(spoiled, size)[0] == 400
    for lie in (0, 1, size - 1, size + 1, len(body) + 1, "-5", "0x5", f"{size} ", "9" * 12):
        status = send(body, lie)[0]
        assert status == (200 if lie == f"{size} " else 400), lie
    assert peers.send_http(connection, body)[0] == 400
    assert len(peers.over_http) == before + 2


def test_malformed_http_requests_are_refused_or_mean_what_they_say(
    peers: Peers, connection: http.client.HTTPConnection
) -> None:
    statuses: dict[int, int] = {}
    before = len(peers.over_http)
    for seed in range(600):
        path, body, headers = http_request(seed)
        if len(body) < 1 << 20:
            try:
                connection.request("POST", path, body, {**headers, **bearer(peers.token)})
            except ValueError:
                continue  # http.client itself refuses it
            answered = connection.getresponse()
            answered.read()
            statuses[answered.status] = statuses.get(answered.status, 0) + 1
    assert set(statuses) <= {200, 400, 403, 404, 415, 431}
    assert statuses[200] > 10 and statuses[400] > 100
    for body, size in peers.over_http[before:]:
        request = json.loads(body[: int(size)] if size else body)
        for tensor in request["inputs"]:
            if tensor["name"] == "TASK" and "data" in tensor:
                assert all(allowed(task.encode()) for task in tensor["data"])


@pytest.mark.parametrize(
    "headers",
    [{"content-encoding": "gzip"}, {"transfer-encoding": "chunked"}, {"inference-header-content-length": "9, 9"}],
)
def test_headers_that_change_how_a_body_is_read_are_refused(
    peers: Peers, connection: http.client.HTTPConnection, headers: dict[str, str]
) -> None:
    before = len(peers.over_http)
    body = json.dumps(json_body(["t-1"])).encode()
    if "transfer-encoding" in headers:
        connection.request("POST", INFER_HTTP, iter([body]), bearer(peers.token), encode_chunked=True)
        assert connection.getresponse().status == 411
    else:
        connection.request("POST", INFER_HTTP, body, {**headers, **bearer(peers.token)})
        assert connection.getresponse().status in (400, 415)
    assert len(peers.over_http) == before


def test_a_compressed_grpc_request_is_refused(peers: Peers, channel: grpc.Channel) -> None:
    before = len(peers.over_grpc)
    call = channel.unary_unary(INFER_GRPC, lambda b: b, lambda b: b)
    body = good([b"t-1"] * 400).SerializeToString()
    with pytest.raises(grpc.RpcError) as refused:
        call(body, metadata=list(bearer(peers.token).items()), compression=grpc.Compression.Gzip, timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert len(peers.over_grpc) == before
