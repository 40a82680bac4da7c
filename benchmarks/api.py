"""`scoremux api` beside gRPC, on one Triton: rows a second of batches and of lone rows, and what a lone row waits.

    python -m benchmarks api

Both ways take turns. Each is driven by a process of its own, which sends the same rows and keeps as many requests in
flight: the Python client over gRPC, and HTTP/1.1 over plain sockets. `cpu_ms` is what all processes together took a
row, which says more than rates where the machine computes other things, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.case import ONE_PROFILE, case
from benchmarks.child import call_aside
from benchmarks.load import POPULARITY, medians, traffic
from benchmarks.rows import Row
from benchmarks.serving import SCOREMUX, START_S, Served, answers, free_ports, serving
from benchmarks.stores import make_store, pool_of
from scoremux_client import AsyncScoringClient, Response

LOADS = {"batches": (64, 4), "lone": (1, 64), "alone": (1, 1)}
"""Rows a request, and requests in flight."""
_MACHINE = ("--set", "uncalibrated=machine")
"""Else all rows of tasks without a calibration would go to people, and the API would commit each to its database."""
_PART_OF_ROWS = {"batches": 1.0, "lone": 0.5, "alone": 0.1}

Send = Callable[[list[tuple[str, str]]], Awaitable[None]]


@contextmanager
def api(url: str, folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Run `scoremux api` before a Triton; give its ``host:port`` and its process."""
    folder.mkdir()
    (port,) = free_ports(1)
    command = [SCOREMUX, "api", "--url", url, "--database", str(folder / "reviews.db")]
    process = subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_S
        while not answers(f"http://127.0.0.1:{port}/healthz"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("scoremux api does not start")
            time.sleep(0.05)
        yield f"127.0.0.1:{port}", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def drive(protocol: str, address: str, file: str, load: str, requests: int, out: str) -> None:
    """Send requests, and write rows_per_s and p50_ms. `file` has rows (task, text), of which each request takes some.

    A process of its own runs this.
    """
    rows, in_flight = LOADS[load]
    pool = json.loads(Path(file).read_text(encoding="utf-8"))
    batches = [[pool[(i * rows + k) % len(pool)] for k in range(rows)] for i in range(requests)]
    seconds: list[float] = []

    async def work(send: Send) -> None:
        while batches:
            batch, started = batches.pop(), time.perf_counter()
            await send(batch)
            seconds.append(time.perf_counter() - started)

    async def main() -> tuple[float, float]:
        connect = {"grpc": _grpc, "json": _json}[protocol]
        sends = [await connect(address) for _ in range(in_flight)] if protocol == "json" else None
        shared = None if sends else await connect(address)
        started, driver_s = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work(sends[i] if sends else shared) for i in range(in_flight)))  # type: ignore[arg-type]
        return time.perf_counter() - started, time.process_time() - driver_s

    took_s, driver_s = asyncio.run(main())
    figures = {"rows_per_s": requests * rows / took_s, "p50_ms": statistics.median(seconds) * 1000}
    figures["driver_s"] = driver_s
    Path(out).write_text(json.dumps(figures), encoding="utf-8")


async def _grpc(address: str) -> Send:
    client = AsyncScoringClient(address, chunk_rows=512, deduplicate=False)

    async def send(rows: list[tuple[str, str]]) -> None:
        scored = await client.score([Response(task, text) for task, text in rows])
        assert all(row.ok for row in scored)

    return send


async def _json(address: str) -> Send:
    """One connection, which is kept."""
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 22)

    async def send(rows: list[tuple[str, str]]) -> None:
        body = json.dumps({"rows": [{"id": str(i), "task": t, "text": x} for i, (t, x) in enumerate(rows)]}).encode()
        head = f"POST /v1/score HTTP/1.1\r\nhost: {address}\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        status, *headers = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        length = next(int(line.partition(b":")[2]) for line in headers if line.startswith(b"content-length:"))
        answer = json.loads(await reader.readexactly(length))
        assert b" 200 " in status and all(row["status"] == "OK" for row in answer["rows"]), status

    return send


def _processor_s(server: Served, api: psutil.Process) -> float:
    """Return what Triton, its scorer and the API have taken until now, in seconds."""
    processes = [*server.named("tritonserver"), *server.named("triton_python"), api]
    return sum(sum(process.cpu_times()[:2]) for process in processes)


@case(
    columns=(
        "data; profile; batches of 64, rows/s: gRPC = batches.grpc.rows_per_s:,.0f; "
        "JSON = batches.json.rows_per_s:,.0f; ratio = batches.ratio:.2f; "
        "of processor time = batches.cpu_ratio:.2f; "
        "64 lone rows, rows/s: gRPC = lone.grpc.rows_per_s:,.0f; JSON = lone.json.rows_per_s:,.0f; "
        "ratio = lone.ratio:.2f; of processor time = lone.cpu_ratio:.2f; "
        "one lone row, p50 ms: gRPC = alone.grpc.p50_ms:.1f; "
        "JSON = alone.json.p50_ms:.1f; JSON − gRPC = alone.over_ms:+.1f"
    ),
    keys="data profile",
    name="api",
    options={**ONE_PROFILE, "--popularity": POPULARITY},
    defaults={"rounds": 5, "rows": 4096},
)
def json_api(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """Plain JSON beside gRPC: the share of its rows a second, and what a lone row waits longer."""
    repository = make_store(work, arguments.data)
    file, out = work / "rows.json", work / "figures.json"
    rows = traffic(pool_of(arguments.data), 1024, arguments.popularity)
    file.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    measured: dict[str, dict[str, list[dict[str, float]]]] = {name: {"grpc": [], "json": []} for name in LOADS}
    with (
        serving(repository, work / "serve.log", "--profile", arguments.profile, *_MACHINE) as server,
        api(server.grpc_url, work / "api") as (http, process),
    ):
        for number in range(arguments.rounds + 1):  # the first one warms up
            for name, (size, in_flight) in LOADS.items():
                requests = max(3 * in_flight, round(arguments.rows * _PART_OF_ROWS[name] / size))
                for protocol, address in (("grpc", server.grpc_url), ("json", http)):
                    before_s = _processor_s(server, process)
                    call_aside("benchmarks.api:drive", protocol, address, str(file), name, requests, str(out))
                    figures = json.loads(out.read_text(encoding="utf-8"))
                    took_s = _processor_s(server, process) - before_s + figures.pop("driver_s")
                    if number:
                        measured[name][protocol].append({**figures, "cpu_ms": took_s / requests / size * 1000})
    row: dict[str, Any] = {"data": arguments.data, "profile": arguments.profile, "popularity": arguments.popularity}
    for name, by_protocol in measured.items():
        pairs = list(zip(by_protocol["grpc"], by_protocol["json"], strict=True))
        ratio = statistics.median(j["rows_per_s"] / g["rows_per_s"] for g, j in pairs)
        cheaper = statistics.median(g["cpu_ms"] / j["cpu_ms"] for g, j in pairs)
        over_ms = statistics.median(j["p50_ms"] - g["p50_ms"] for g, j in pairs)
        row[name] = {
            **{p: medians(runs) for p, runs in by_protocol.items()},
            "ratio": ratio,
            "cpu_ratio": cheaper,
            "over_ms": over_ms,
        }
    yield {**row, "rounds": arguments.rounds}
