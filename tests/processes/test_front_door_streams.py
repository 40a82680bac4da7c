"""What one HTTP/2 connection may have under way at the front door: the rest waits, and nothing of it is lost."""

import threading
import time
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from doors import Place, bearer, needs_haproxy
from peers import answer, listening
from scoremux_client import NO_RETRIES, Response, ScoringClient
from scoremux_server.front_door.config import Backend
from scoremux_server.front_door.haproxy_config import STREAMS
from small_backends import small_backend
from stands import message

pytestmark = needs_haproxy


def test_a_clients_further_requests_wait(tmp_path: Path) -> None:
    lock, full, under_way, most = threading.Lock(), threading.Event(), 0, 0

    def slow(request: Any, context: Any) -> Any:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
            if most == STREAMS:
                full.set()
        full.wait(60)
        time.sleep(0.02)  # time for more than there may be
        with lock:
            under_way -= 1
        return answer(request, context)

    with listening(slow, threads=32) as url, small_backend() as port:
        place = Place(tmp_path, [Backend(name="peer", grpc=url, http=url, ready=f"127.0.0.1:{port}")])
        keys = {"tls": place.tls, "token": place.everything, "retries": NO_RETRIES}
        with place.open(), ScoringClient(place.url("grpcs"), chunk_rows=1, window=16, **keys) as client:
            scored = client.score([Response("t-1", str(number)) for number in range(60)])
    assert [one.level for one in scored] == list(range(60))
    assert most == STREAMS


def test_request_of_a_client_that_hangs_up_is_cancelled(tmp_path: Path) -> None:
    came, ended = threading.Event(), threading.Event()

    def slow(_request: Any, context: Any) -> Any:
        context.add_callback(ended.set)
        came.set()
        ended.wait(60)
        return service_pb2.ModelInferResponse()

    with listening(slow, threads=2) as url, small_backend() as port:
        place = Place(tmp_path, [Backend(name="peer", grpc=url, http=url, ready=f"127.0.0.1:{port}")])
        with place.open():
            roots = grpc.ssl_channel_credentials((tmp_path / "ca.pem").read_bytes())
            with grpc.secure_channel(f"localhost:{place.port}", roots) as channel:
                call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", lambda b: b, lambda b: b)
                headers = list(bearer(place.everything).items())
                asked = call.future(message([b"t-1"]).SerializeToString(), metadata=headers)
                assert came.wait(60) and not asked.done()
            assert ended.wait(30)
