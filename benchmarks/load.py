"""Serving under load with perf_analyzer: closed loop and Poisson arrivals of lone rows, over gRPC and HTTP.

    python -m benchmarks load --data SAF
    python -m benchmarks closed_loop --data SCIENTSBANK
    python -m benchmarks merged_calls --profile cpu,precision=int8
    python -m benchmarks load_input responses.jsonl load.json

The last writes what perf_analyzer sends to a server of your own (columns `task` and `text`). Loads take turns,
`--rounds` times. After every load Triton's own counters must have grown by what was sent, and the canary.
perf_analyzer runs on the server's own cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.case import ONE_PROFILE, case
from benchmarks.perf_analyzer import Load, find_program, write_input
from benchmarks.rows import Row
from benchmarks.serving import Served, serving
from benchmarks.stores import make_store, pool_of
from scoremux_client import AsyncScoringClient, Response
from scoremux_engine.runners.runner import available_cores

CONCURRENCY = (1, 4, 16, 64, 128)
"""Requests in flight."""
SHARES = (0.3, 0.6, 0.8, 0.95, 1.1)
"""Arrivals as shares of the most that the closed loop reached."""
CLOSED_LOOPS = {"lone": (1, 64), "batches": (512, 2)}
"""Rows a request, and requests in flight."""
FEWEST_REQUESTS, FIRST_GUESS_ROWS_PER_S = 8, 100.0

POPULARITY: dict[str, Any] = {"choices": data.POPULARITIES, "default": "zipf", "help": "of tasks"}
Series = tuple[str, str]
"""Protocol, mode."""


def traffic(pool: Sequence[tuple[str, str]], rows: int, popularity: str, seed: int = 6) -> list[tuple[str, str]]:
    """Return rows, (task, text): tasks by popularity, each with texts of its own."""
    draw = random.Random(seed)
    texts: dict[str, list[str]] = {}
    for task, text in pool:
        texts.setdefault(task, []).append(text)
    names = draw.sample(sorted(texts), len(texts))
    return [(task, draw.choice(texts[task])) for task in data.popular(popularity, names, rows, draw)]


@dataclass
class Sweep:
    """Runs loads, and keeps every round's figures by series and level."""

    program: str
    ports: tuple[int, int]
    input: Path
    seconds: float
    measured: dict[Series, dict[float, list[dict[str, Any]]]] = field(default_factory=dict)

    def run(self, series: Series, level: float) -> None:
        """Measure one load for about `seconds`."""
        protocol, mode = series
        levels = self.measured.setdefault(series, {})
        last = next((runs[-1]["rows_per_s"] for runs in reversed(levels.values())), FIRST_GUESS_ROWS_PER_S)
        rate = level if mode == "rate" else last
        # In a closed loop the first and last requests meet an emptier server: they must be few.
        fewest = max(FEWEST_REQUESTS, round(level)) if mode == "rate" else 3 * int(level)
        sent = Load(protocol, 1, mode, level, max(fewest, round(self.seconds * rate)))
        figures = sent.measure(self.program, self.ports, self.input, self.input.with_name("measured.csv"))
        print(f"{protocol} {mode} {level:g}: {figures['rows_per_s']:,.0f} rows/s", file=sys.stderr)
        levels.setdefault(level, []).append(figures)

    def most_rows_per_s(self) -> float:
        """Return the best that any protocol's closed loop reached."""
        closed = [levels for (_, mode), levels in self.measured.items() if mode == "concurrency"]
        return max(float(run["rows_per_s"]) for levels in closed for runs in levels.values() for run in runs)

    def points(self, series: Series) -> list[dict[str, float]]:
        """Return the medians over the rounds by level, lowest level first, with the spread of rows/s."""
        found = []
        for _, runs in sorted(self.measured[series].items()):
            point = medians(runs)
            rates = [run["rows_per_s"] for run in runs]
            found.append({**point, "spread": (max(rates) - min(rates)) / point["rows_per_s"]})
        return found


def medians(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the median of each figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def knee(points: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return where more load begins to buy more waiting than work.

    argmax of t − l, with throughput t and median latency l each scaled to 0…1 over the curve (Kneedle).
    """

    def scaled(name: str) -> Any:
        values = np.array([point[name] for point in points])
        return (values - values.min()) / ((values.max() - values.min()) or 1.0)

    return points[int(np.argmax(scaled("rows_per_s") - scaled("p50_ms")))]


@case(
    columns=(
        "data; profile; protocol; mode; level = knee.level:g; "
        "rows/s = knee.rows_per_s:,.0f; spread = knee.spread:.2f; p50 ms = knee.p50_ms:,.0f; "
        "p99 ms = knee.p99_ms:,.0f; queue ms = knee.queue_ms:,.1f; compute ms = knee.compute_ms:,.0f"
    ),
    keys="data profile protocol mode",
    options={
        **ONE_PROFILE,
        "--protocols": {"nargs": "*", "choices": ("grpc", "http"), "default": ["grpc", "http"]},
        "--popularity": POPULARITY,
        "--seconds": {"type": float, "default": 1.0, "help": "how long each load lasts, about"},
    },
    defaults={"rounds": 3},
)
def load(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Where more load begins to buy more waiting than work: the knee of latency over throughput."""
    repository = make_store(work, arguments.data)
    pool = pool_of(arguments.data)
    write_input(traffic(pool, 1024, arguments.popularity), work / "load.json")
    with serving(repository, work / "serve.log", "--profile", arguments.profile) as server:
        sweep = Sweep(find_program(), (server.grpc, server.http), work / "load.json", arguments.seconds)
        for mode in ("concurrency", "rate"):
            for _ in range(arguments.rounds):
                most = sweep.most_rows_per_s() if mode == "rate" else 0.0
                for level in [round(share * most, 2) for share in SHARES] if most else CONCURRENCY:
                    for protocol in arguments.protocols:
                        sweep.run((protocol, mode), level)
    setting = {"data": arguments.data, "profile": arguments.profile, "popularity": arguments.popularity}
    for series in sweep.measured:
        named = dict(zip(("protocol", "mode"), series, strict=True))
        points = sweep.points(series)
        yield {**setting, **named, "rounds": arguments.rounds, "points": points, "knee": knee(points)}


def processor_seconds(server: Served) -> dict[str, float]:
    """Return what the scorer, Triton, and all perf_analyzers that have ended took until now."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = {"analyzer": ended.ru_utime + ended.ru_stime}
    for name, process in {"scorer": "triton_python", "triton": "tritonserver"}.items():
        times = server.named(process)[0].cpu_times()
        seconds[name] = times.user + times.system
    return seconds


@case(
    columns=(
        "data; profile; lone rows/s = lone.rows_per_s:,.0f; in batches = batches.rows_per_s:,.0f; "
        "of batches = of_batches:.2f; of the ceiling = of_ceiling:.2f; scorer ms = lone.scorer_ms:.2f; "
        "Triton ms = lone.triton_ms:.2f; perf_analyzer ms = lone.analyzer_ms:.2f; "
        "scorer ms in batches = batches.scorer_ms:.2f"
    ),
    keys="data profile",
    options={**ONE_PROFILE, "--popularity": POPULARITY},
    defaults={"rounds": 3, "rows": 4096},
)
def closed_loop(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """64 lone rows in flight beside batches of 512, with processor time a row.

    The ceiling is the rate of batches, less what lone rows cost more in Triton and perf_analyzer on the same cores.
    """
    repository = make_store(work, arguments.data)
    pool = pool_of(arguments.data)
    write_input(traffic(pool, 1024, arguments.popularity), work / "load.json")
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in CLOSED_LOOPS}
    with serving(repository, work / "serve.log", "--profile", arguments.profile) as server:
        for number in range(arguments.rounds + 1):  # the first one warms up
            for name, (batch, level) in CLOSED_LOOPS.items():
                sent = Load("grpc", batch, "concurrency", level, max(FEWEST_REQUESTS, arguments.rows // batch))
                before = processor_seconds(server)
                figures = sent.measure(find_program(), (server.grpc, server.http), work / "load.json", work / "m.csv")
                rows = (sent.requests + sent.warm_up) * batch
                for process, seconds in processor_seconds(server).items():
                    figures[f"{process}_ms"] = (seconds - before[process]) / rows * 1000
                if number:
                    measured[name].append(figures)
    lone, batches = map(medians, measured.values())
    dearer_ms = sum(lone[name] - batches[name] for name in ("triton_ms", "analyzer_ms"))
    ceiling = 1 / (1 / batches["rows_per_s"] + dearer_ms / 1000 / available_cores())
    setting = {"data": arguments.data, "profile": arguments.profile, "popularity": arguments.popularity}
    ratios = {"of_batches": lone["rows_per_s"] / batches["rows_per_s"], "of_ceiling": lone["rows_per_s"] / ceiling}
    yield {**setting, "rounds": arguments.rounds, "lone": lone, "batches": batches, **ratios}


@case(
    columns=(
        "data; profile; calls in flight = level; clients; rows/s = rows_per_s:,.0f; p50 ms = p50_ms:.1f; "
        "× a client for each = times_apart:.2f"
    ),
    keys="data profile level clients",
    options=ONE_PROFILE,
    defaults={"rounds": 3, "rows": 2048},
)
def merged_calls(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Lone calls of AsyncScoringClient: of one client, which merges them, and of a client for each, which cannot."""
    rows = traffic(pool_of(arguments.data), arguments.rows, "uniform")
    profile, *settings = arguments.profile.split(",")
    words = ("--profile", profile, *(word for setting in settings for word in ("--set", setting)))
    ways = [(64, 64), (64, 1), (1, 1)]
    measured: dict[tuple[int, int], list[dict[str, float]]] = {way: [] for way in ways}
    with serving(make_store(work, arguments.data), work / "serve.log", *words) as server:
        for number in range(arguments.rounds + 1):  # the first one warms up
            for level, clients in ways:
                some = rows[: max(256, len(rows) * level // 64)]
                figures = asyncio.run(_call(server.grpc_url, some, level, clients))
                measured[level, clients] += [figures] if number else []
    for (level, clients), runs in measured.items():
        setting = {"data": arguments.data, "profile": arguments.profile, "level": level, "clients": clients}
        pairs = zip(runs, measured[ways[0]], strict=True)
        times = {"times_apart": statistics.median(a["rows_per_s"] / b["rows_per_s"] for a, b in pairs)}
        yield {**setting, "rounds": len(runs), **medians(runs), **(times if level > 1 else {})}


async def _call(url: str, rows: Sequence[tuple[str, str]], level: int, clients: int) -> dict[str, float]:
    """Score each row by a call of its own, `level` calls at a time."""
    left, seconds = iter(rows), list[float]()

    async def call(client: AsyncScoringClient) -> None:
        for row in left:
            started = time.perf_counter()
            await client.score([Response(*row)])
            seconds.append(time.perf_counter() - started)

    async with AsyncExitStack() as held:
        opened = [await held.enter_async_context(AsyncScoringClient(url, deduplicate=False)) for _ in range(clients)]
        started = time.perf_counter()
        await asyncio.gather(*(call(opened[n % clients]) for n in range(level)))
        took_s = time.perf_counter() - started
    return {"rows_per_s": len(rows) / took_s, "p50_ms": 1e3 * statistics.median(seconds)}


def write_load(words: list[str]) -> None:
    """Write what perf_analyzer sends from responses of the user's own, and measure nothing."""
    parser = argparse.ArgumentParser("python -m benchmarks load_input")
    parser.add_argument("responses", type=Path, help="JSONL with task and text")
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=512, help="how many (default: %(default)s)")
    parser.add_argument("--popularity", **POPULARITY)
    arguments = parser.parse_args(words)
    lines = arguments.responses.read_text(encoding="utf-8").splitlines()
    pool = [(row["task"], row["text"]) for row in map(json.loads, lines)]
    write_input(traffic(pool, arguments.rows, arguments.popularity), arguments.out)
