"""What many tasks cost: the start of `scoremux serve`, and a store of 100,000 tasks (benchmarks/scale.md).

    python -m benchmarks start --work FOLDER     from the command to ready, 27 and 1,000 tasks
    python -m benchmarks store --work FOLDER     10,000 and 100,000 tasks: start, publishing
    python -m benchmarks wide --work FOLDER      a job over 100,000 tasks, with room for 3,000, against one over 1,000
    python -m benchmarks two_servers --work FOLDER    tasks that one client gives to both of two servers

`load` is the machine's load average: where others compute too, seconds are longer than they need be.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import statistics
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from benchmarks import data
from benchmarks.case import ONE_PROFILE, case
from benchmarks.rows import Row, load
from benchmarks.serving import SCOREMUX, Served, processor_s, serving
from benchmarks.stores import pool_of, store_of
from scoremux_client import Response, ScoringClient
from scoremux_client.rows import Answer, Columns
from scoremux_client.transports.grpc import GrpcTransport
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.package_files import CONFIG_JSON, TASK_JSON, TENSORS
from scoremux_engine.store.store import Store

TASKS = {"--tasks": {"nargs": "+", "type": int, "help": "default: 27 and 1,000; 10,000 and 100,000"}}
TEXT = "It hands out addresses to hosts on the network."


@case(
    columns=(
        "tasks = tasks:,; profile; ready, s = ready_s:.1f; fastest, s = best_s:.1f; processor s = processor_s:.1f; load"
    ),
    keys="tasks profile",
    options={**ONE_PROFILE, **TASKS},
    defaults={"rounds": 3},
)
def start(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """`scoremux serve` from its command to ready, from warm disk."""
    for tasks in arguments.tasks or (27, 1000):
        repository = store_of(tasks, work)
        took: list[float] = []
        used: list[float] = []
        for _ in range(arguments.rounds + 1):  # the first one warms the disk's cache
            begun = time.perf_counter()
            with serving(repository, work / "serve.log", "--profile", arguments.profile) as served:
                took.append(time.perf_counter() - begun)
                used.append(processor_s(served.process))
        row = {"tasks": tasks, "profile": arguments.profile, "ready_s": statistics.median(took[1:])}
        yield {**row, "processor_s": statistics.median(used[1:]), "best_s": min(took[1:]), "load": load()}


@case(
    columns=(
        "tasks = tasks:,; manifest, MB = manifest_mb; ready, s = ready_s:.1f; publish, ms = publish_ms:.0f; "
        "publish → first score, ms = servable_ms:.0f; at most = servable_most_ms:.0f; load"
    ),
    keys="tasks",
    options={**ONE_PROFILE, **TASKS},
    defaults={"rounds": 3},
)
def store(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """A store of many tasks, through Triton."""
    for tasks in arguments.tasks or (10_000, 100_000):
        repository = store_of(tasks, work)
        backbone, published = Backbone.open(repository / "backbone" / "1"), Store(repository / "store")
        begun = time.perf_counter()
        settings = ("--profile", arguments.profile, "--set", f"bank_bytes={1 << 30}")
        with serving(repository, work / "serve.log", *settings) as served, ScoringClient(served.grpc_url) as client:
            ready = time.perf_counter() - begun
            (first,) = client.score([Response(f"task-{tasks // 2:06}", TEXT)])
            rounds = [_publish(published, backbone, client, number, work) for number in range(arguments.rounds)]
        size = (repository / "store" / "manifest.json").stat().st_size
        servable, publishing = (sorted(column) for column in zip(*rounds, strict=True))
        yield {
            "tasks": tasks, "manifest_mb": round(size / 1e6, 1), "ready_s": ready, "first": first.status,
            "publish_ms": statistics.median(publishing), "servable_ms": statistics.median(servable),
            "servable_most_ms": servable[-1], "load": load(),
        }  # fmt: skip


@case(
    columns=(
        "tasks = tasks:,; rows = rows:,; rows/s = rows_per_s:,.0f; × 1,000 tasks = times_few:.2f; "
        "packages read a task = reads_a_task:.3f; server, processor ms a row = server_ms:.2f; load"
    ),
    keys="tasks rows",
    options={
        "--store": {"type": int, "default": 100_000, "help": "tasks of the store (default: %(default)s)"},
        "--tasks": {"type": int, "default": 100_000, "help": "tasks of the job (default: %(default)s)"},
        "--resident": {"type": int, "default": 3000, "help": "tasks in memory, about (default: %(default)s)"},
    },
    defaults={"rows": 200_000},
)
def wide(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """A job of short answers over many tasks, against the same rows over 1,000 tasks."""
    repository, draw, few = store_of(arguments.store, work), random.Random(1), 1000
    texts = [f"{text} {n}" for n, (_, text) in enumerate(draw.choices(pool_of("SCIENTSBANK"), k=arguments.rows))]
    rates: dict[int, float] = {}
    for tasks in (few, arguments.tasks):
        numbers = [n % tasks * (arguments.store // tasks) for n in range(arguments.rows)]
        draw.shuffle(numbers)
        source, out = work / f"wide-{tasks}.jsonl", work / "scored"
        with source.open("w", encoding="utf-8") as file:
            for n, (number, text) in enumerate(zip(numbers, texts, strict=True)):
                file.write(json.dumps({"id": f"r{n}", "task": f"task-{number:06}", "text": text}) + "\n")
        shutil.rmtree(out, ignore_errors=True)
        bank_bytes = arguments.resident * 310_000
        settings = ("--profile", "cpu", "--set", f"bank_bytes={bank_bytes}")
        with serving(repository, work / "serve.log", *settings) as served:
            _settle(served)
            read, used, begun = _packages_read(served), processor_s(served.process), time.perf_counter()
            subprocess.run([SCOREMUX, "score", str(source), "--out", str(out), "--url", served.grpc_url], check=True)
            rates[tasks] = arguments.rows / (time.perf_counter() - begun)
            yield {
                "tasks": tasks, "rows": arguments.rows, "rows_per_s": rates[tasks],
                "times_few": rates[tasks] / rates[few], "reads_a_task": (_packages_read(served) - read) / tasks,
                "server_ms": 1e3 * (processor_s(served.process) - used) / arguments.rows, "load": load(),
            }  # fmt: skip


class _Noting(GrpcTransport):
    """Counts the rows of each task that go to a server."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.rows_of = Counter[bytes]()

    def submit(self, inputs: Columns, timeout_s: float | None) -> Answer:
        self.rows_of.update(inputs["TASK"][:, 0])
        return super().submit(inputs, timeout_s)


@case(
    columns=(
        "servers; tasks = tasks:,; rows = rows:,; rows a call = call_rows; calls in flight = calls; "
        "tasks on both, % = both_percent:.1f; rows, more / fewer = uneven:.3f; rows/s = rows_per_s:,.0f; load"
    ),
    keys="servers tasks call_rows calls",
    options={**ONE_PROFILE, "--tasks": {"type": int, "default": 800, "help": "default: %(default)s"}},
    defaults={"rows": 12_000},
)
def two_servers(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """Two servers of one client: tasks that both compute, and how evenly rows spread. Tasks by Zipf's law."""
    repository = store_of(arguments.tasks, work)
    names, draw = [f"task-{number:06}" for number in range(arguments.tasks)], random.Random(1)
    texts = [text for _, text in draw.choices(pool_of("SCIENTSBANK"), k=arguments.rows)]
    settings = ("--profile", arguments.profile)
    with (
        serving(repository, work / "first.log", *settings) as first,
        serving(repository, work / "second.log", *settings) as second,
    ):
        for servers in ("just started", "after as many rows"):
            drawn = zip(data.popular("zipf", names, arguments.rows, draw), texts, strict=True)
            rows = [Response(task, f"{text} {servers}") for task, text in drawn]
            for call_rows, calls in ((64, 16), (1, 16)):
                transports = [_Noting(served.grpc_url) for served in (first, second)]
                part = rows[: max(arguments.rows // 4, len(rows) * call_rows // 64)]
                begun = time.perf_counter()
                with ScoringClient(transports, chunk_rows=call_rows, window=calls) as client:
                    failed = [scored for scored in client.score(part) if not scored.ok]
                seconds = time.perf_counter() - begun
                if failed:
                    raise RuntimeError(f"{len(failed)} rows failed: {failed[0].status}")
                one, other = (transport.rows_of for transport in transports)
                yield {
                    "servers": servers, "tasks": arguments.tasks, "rows": len(part), "call_rows": call_rows,
                    "calls": calls, "both_percent": 100 * len(one.keys() & other) / len(one.keys() | other),
                    "uneven": max(one.total(), other.total()) / min(one.total(), other.total()),
                    "rows_per_s": len(part) / seconds, "load": load(),
                }  # fmt: skip


def _settle(served: Served) -> None:
    """Wait until the server has filled its memory with tasks."""
    before = -1.0
    while (now := _packages_read(served)) != before:
        before = now
        time.sleep(3)


def _packages_read(served: Served) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{served.metrics}/metrics") as answer:
        (count,) = re.findall(r"^scoremux_bank_loads_total\S* (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(count)


def _publish(store: Store, backbone: Backbone, client: ScoringClient, number: int, work: Path) -> tuple[float, float]:
    """Publish a version; return ms from the publish's return to its first score, and ms that the publish took."""
    folder = work / "fresh"
    folder.mkdir(exist_ok=True)
    adapter = data.example_adapters()[number % 27]
    for name in (CONFIG_JSON, TENSORS):
        (folder / name).write_bytes((adapter / name).read_bytes())
    described = json.loads((adapter / TASK_JSON).read_text(encoding="utf-8"))
    fresh = {"id": f"fresh-{number}", "levels": described["levels"], "question": str(time.time_ns())}
    (folder / TASK_JSON).write_text(json.dumps(fresh), encoding="utf-8")
    begun = time.perf_counter()
    (change,) = store.add([folder], backbone)
    done = time.perf_counter()
    while client.score([Response(f"fresh-{number}", TEXT)])[0].version != change.after:
        pass
    return 1e3 * (time.perf_counter() - done), 1e3 * (done - begun)
