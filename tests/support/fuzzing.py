"""Malformed requests over gRPC and HTTP to a server: no crash, no hang, an error sentence each."""

import http.client
import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from tritonclient.grpc import service_pb2_grpc

from malformed import grpc_request, http_request
from scoremux_client import Response, ScoringClient, TransportError
from scoremux_server.triton.endpoints import Endpoints

HANG_S = 30.0
WORKERS = 8
MOST_BAD = 40
CODES = {grpc.StatusCode.DEADLINE_EXCEEDED: "hang", grpc.StatusCode.UNAVAILABLE: "crash"}
LATE = "the deadline of the request passed"  # by its parameter deadline_ms: UNAVAILABLE, too


class Tally:
    """Outcomes by kind, and the seeds of the bad ones."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.bad: list[str] = []
        self._lock = threading.Lock()

    def add(self, seed: str, outcome: str) -> None:
        with self._lock:
            self.outcomes[outcome] += 1
            if outcome not in ("answered", "refused"):
                self.bad.append(f"{seed}: {outcome}")


def over_grpc(stub: Any, seed: str) -> str:
    """Send one malformed request; return what came of it."""
    try:
        stub.ModelInfer(grpc_request(seed), timeout=HANG_S)
    except grpc.RpcError as error:
        said = error.details() or ""
        return "refused" if LATE in said else CODES.get(error.code(), "refused" if said else "no sentence")
    return "answered"


def over_http(connection: http.client.HTTPConnection, seed: str) -> str:
    """Send one malformed request; return what came of it."""
    path, body, headers = http_request(seed)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        status, text = answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return "hang" if isinstance(error, TimeoutError) else f"connection lost ({type(error).__name__})"
    if status == 200:
        return "answered"
    try:
        return "refused" if json.loads(text)["error"] else f"no sentence ({status})"
    except (ValueError, KeyError, TypeError):
        return f"no sentence ({status})"


def send(endpoints: Endpoints, first: int, count: int, seed: str, tally: Tally) -> None:
    """Send `count` requests, every other one over HTTP, on connections of its own."""
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    connection = http.client.HTTPConnection("127.0.0.1", endpoints.http, timeout=HANG_S)
    with grpc.insecure_channel(endpoints.grpc_url, options) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for number in range(first, first + count):
            if len(tally.bad) > MOST_BAD:  # whatever it was, it is found
                break
            name = f"{seed}-{number}"
            tally.add(name, over_grpc(stub, name) if number % 2 else over_http(connection, name))
    connection.close()


def fuzz(endpoints: Endpoints, pids: Callable[[], set[int]], count: int, seed: str = "1") -> Tally:
    """Send `count` requests and check that the same processes serve the same bits as before.

    pids: returns the processes that serve.
    """
    tally, share, before = Tally(), -(-count // WORKERS), pids()
    with ScoringClient(endpoints.grpc_url) as client:
        good = [Response(task, "It hands out addresses.") for task in ("en-6.3-ipp", "t-1")]
        expected = client.score(good)
        with ThreadPoolExecutor(WORKERS) as pool:
            jobs = [pool.submit(send, endpoints, n * share, share, seed, tally) for n in range(WORKERS)]
        for job in jobs:
            job.result()
        try:
            same = repr(client.score(good)) == repr(expected)
        except TransportError:
            same = False
        if not same:
            tally.add("after all", "other bits, or none")
    if pids() != before:
        tally.add("after all", "a process died")
    return tally
