"""What many servers and many files cost: clients, the front door and Ray, with servers that compute nothing.

    python -m benchmarks client door     one stub server, and 64 of them behind one door
    python -m benchmarks ray             a job over 1,000 files, in one process and on Ray

A stub server answers every row at once. `load` is the machine's load average: where others compute too, rates are lower
than they need be, and processor time says more.
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.case import case
from benchmarks.rows import ROOT, Row, load
from benchmarks.serving import SCOREMUX, front_door, write_door
from scoremux_client import Response, ScoringClient, Tls

STUB = ROOT / "tests" / "support" / "stub_server.py"
TEXT = "It hands out addresses to hosts on the network."
CLIENTS, SIZES = 4, (1, 64, 512)
SECONDS = {"--seconds": {"type": float, "default": 3.0, "help": "of each measurement of a client"}}
DRIVEN = (
    "servers; rows a request = rows; requests/s = requests_per_s:,.0f; rows/s = rows_per_s:,.0f; "
    "client, µs a row = client_us:.1f; door, µs a request = door_us:.0f; load"
)
Connect = Callable[[int], ScoringClient]
"""Rows a request → a client that sends so many."""


@contextmanager
def stub_servers(count: int) -> Iterator[list[str]]:
    """Give the addresses of a process that answers every row at once, on so many ports."""
    process = subprocess.Popen([sys.executable, str(STUB), str(count)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()
    finally:
        process.kill()
        process.wait()


@contextmanager
def door(backends: Sequence[str], folder: Path) -> Iterator[Connect]:
    """Open a front door before gRPC servers, and give what connects to it."""
    from scoremux_server.front_door.config import DOOR_HEADER, door_mark
    from scoremux_server.triton.endpoints import ARITHMETIC_HEADER

    file, access = write_door(folder)
    key = (folder / "grant.key").read_bytes()
    headers = {DOOR_HEADER: door_mark(key, safe=False), ARITHMETIC_HEADER: "x86-f32"}
    with _always_ready(headers) as ready:

        def connect(rows: int) -> ScoringClient:
            tls, url = Tls(root_certificates=folder / "ca.pem"), f"grpcs://localhost:{access['port']}"
            return ScoringClient(url, chunk_rows=rows, deduplicate=False, token=access["token"], tls=tls)

        with front_door(file, [{"grpc": grpc, "http": ready, "ready": ready} for grpc in backends]):
            yield connect


@contextmanager
def _always_ready(headers: dict[str, str]) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{web.server_port}"
        web.shutdown()


@case(
    DRIVEN,
    "servers rows",
    options=SECONDS,
)
def client(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:  # noqa: ARG001
    """A process of four clients and a stub server that answers at once."""
    with stub_servers(1) as (url,):
        for rows in SIZES:
            row = drive(lambda size: ScoringClient(url, chunk_rows=size, deduplicate=False), rows, arguments.seconds)
            yield {"servers": 1, **row}


@case(
    DRIVEN,
    "servers rows",
    options={**SECONDS, "--servers": {"type": int, "default": 64, "help": "stub servers behind the door"}},
    name="door",
)
def through_door(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """The same through a front door before many stub servers."""
    with stub_servers(arguments.servers) as urls, door(urls, work / "door") as connect:
        processes = [p for p in psutil.Process().children(recursive=True) if p.name() == "haproxy"]
        for rows in SIZES:
            before = sum(sum(p.cpu_times()[:2]) for p in processes)
            row = drive(connect, rows, arguments.seconds)
            used = sum(sum(p.cpu_times()[:2]) for p in processes) - before
            yield {"servers": len(urls), **row, "door_us": 1e6 * used / row["requests"]}


def drive(connect: Connect, rows: int, seconds: float) -> dict[str, Any]:
    """Send requests of so many rows from some clients for some seconds; return what they reached."""
    responses = [Response(f"task-{n % 27}", TEXT, id=str(n)) for n in range(rows)]

    def send(seconds: float) -> int:
        sent = 0
        with connect(rows) as client:
            ends = time.perf_counter() + seconds
            while time.perf_counter() < ends:
                if any(scored.level != 3 for scored in client.score(responses)):
                    raise RuntimeError("a row got no score")
                sent += 1
        return sent

    send(0.3)
    with ThreadPoolExecutor(CLIENTS) as pool:
        used, begun = time.process_time(), time.perf_counter()
        requests = sum(pool.map(send, [seconds] * CLIENTS))
        took, used = time.perf_counter() - begun, time.process_time() - used
    return {
        "rows": rows,
        "requests": requests,
        "requests_per_s": requests / took,
        "rows_per_s": requests * rows / took,
        "client_us": 1e6 * used / (requests * rows),
        "load": load(),
    }


@case(
    columns=(
        "engine; files = files:,; rows = rows:,; s = seconds:.1f; rows/s = rows_per_s:,.0f; "
        "processor s = processor_s:.1f; load"
    ),
    keys="engine files",
    options={"--files": {"type": int, "default": 1000, "help": "of 100 rows (default: %(default)s)"}},
)
def ray(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """`scoremux score` over many files, against a stub server."""
    folder = work / f"files-{arguments.files}"
    folder.mkdir(exist_ok=True)
    for number in range(arguments.files):
        rows = ({"id": f"{number}-{n}", "task": f"task-{n % 27}", "text": TEXT} for n in range(100))
        (folder / f"{number:04}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with stub_servers(1) as (url,):
        for engine in ("local", "ray"):
            out = work / f"scored-{engine}-{time.time_ns()}"
            begun, before = time.perf_counter(), os.times()
            command = [SCOREMUX, "score", str(folder), "--out", str(out), "--url", url, "--engine", engine]
            subprocess.run(command, check=True, capture_output=True)
            took, after = time.perf_counter() - begun, os.times()
            used = after.children_user + after.children_system - before.children_user - before.children_system
            rows_scored = arguments.files * 100
            yield {
                "engine": engine, "files": arguments.files, "rows": rows_scored, "seconds": took, "processor_s": used,
                "rows_per_s": rows_scored / took, "load": load(),
            }  # fmt: skip
