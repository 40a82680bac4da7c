"""Malformed requests over gRPC and HTTP: no crash, no hang, an error sentence each.

python -m benchmarks.fuzz --repository model_repository --requests 100000
"""

from __future__ import annotations

import argparse
import http.client
import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console
from rich.table import Table
from tritonclient.grpc import service_pb2_grpc

from benchmarks.malformed import grpc_request, http_request
from benchmarks.provenance import record
from scoremux_client import Response, ScoringClient, TransportError
from scoremux_server import processes
from scoremux_server.endpoints import Endpoints
from scoremux_server.profile import Profile
from scoremux_server.server import Server

COMMAND = "python -m benchmarks.fuzz --requests N"
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


def fuzz(server: Server, count: int, seed: str = "1") -> Tally:
    """Send `count` requests and check that the same processes serve the same bits as before."""
    tally, share = Tally(), -(-count // WORKERS)
    before = {server.process.pid, *processes.stubs(server.process.pid)}
    with ScoringClient(server.endpoints.grpc_url) as client:
        good = [Response(task, "It hands out addresses.") for task in ("en-6.3-ipp", "t-1")]
        expected = client.score(good)
        with ThreadPoolExecutor(WORKERS) as pool:
            jobs = [pool.submit(send, server.endpoints, n * share, share, seed, tally) for n in range(WORKERS)]
        for job in jobs:
            job.result()
        try:
            same = repr(client.score(good)) == repr(expected)
        except TransportError:
            same = False
        if not same:
            tally.add("after all", "other bits, or none")
    if {server.process.pid, *processes.stubs(server.process.pid)} != before:
        tally.add("after all", f"a process died (tritonserver's status: {server.process.exit_status})")
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--profile", default="cpu")
    args = parser.parse_args()
    started = time.monotonic()
    with Server(args.repository, Endpoints.choose(), profile=Profile.read(args.profile)) as server:
        tally = fuzz(server, args.requests, args.seed)
    table = Table("outcome", "requests")
    for name, count in tally.outcomes.most_common():
        table.add_row(name, f"{count:,}")
    console = Console()
    console.print(table, f"{len(tally.sentences)} different sentences", *tally.bad[:20], sep="\n")
    figures = {"requests": args.requests, "seed": args.seed, "outcomes": dict(tally.outcomes), "bad": tally.bad[:20]}
    seconds = time.monotonic() - started
    record("fuzz", COMMAND, {**figures, "sentences": len(tally.sentences), "seconds": seconds})


if __name__ == "__main__":
    main()
