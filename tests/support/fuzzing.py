"""Malformed requests over gRPC and HTTP to a server: no crash, no hang, an error sentence each."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
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


@dataclass
class Tally:
    """Outcomes by kind, the seeds of the bad ones, and the sentences that were said."""

    outcomes: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    sentences: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, seed: str, outcome: str, sentence: str = "") -> None:
        with self._lock:
            self.outcomes[outcome] += 1
            self.sentences[sentence[:60]] += bool(sentence)
            if outcome not in ("answered", "refused"):
                self.bad.append(f"{seed}: {outcome}")


def over_grpc(stub: Any, seed: str, tally: Tally) -> None:
    """Send one malformed request and judge the answer."""
    try:
        stub.ModelInfer(grpc_request(seed), timeout=HANG_S)
        tally.add(f"grpc {seed}", "answered")
    except grpc.RpcError as error:
        sentence = error.details() or ""
        outcome = CODES.get(error.code(), "refused" if sentence else "no sentence")
        tally.add(f"grpc {seed}", outcome, sentence)


def over_http(connection: http.client.HTTPConnection, seed: str, tally: Tally) -> None:
    """Send one malformed request and judge the answer."""
    path, body, headers = http_request(seed)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        status, text = answer.status, answer.read()
    except TimeoutError:
        connection.close()
        return tally.add(f"http {seed}", "hang")
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return tally.add(f"http {seed}", f"connection lost ({type(error).__name__})")
    if status == 200:
        return tally.add(f"http {seed}", "answered")
    try:
        sentence = str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        sentence = ""
    return tally.add(f"http {seed}", "refused" if sentence else f"no sentence ({status})", sentence)


def send(endpoints: Endpoints, first: int, count: int, seed: str, tally: Tally) -> None:
    """Send `count` requests, every other one over HTTP, on connections of its own."""
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    connection = http.client.HTTPConnection("127.0.0.1", endpoints.http, timeout=HANG_S)
    with grpc.insecure_channel(endpoints.grpc_url, options) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for number in range(first, first + count):
            if len(tally.bad) > MOST_BAD:  # whatever it was, it is found
                break
            if number % 2:
                over_grpc(stub, f"{seed}-{number}", tally)
            else:
                over_http(connection, f"{seed}-{number}", tally)
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
