"""Hours of moderate load while tasks come and go: does the memory, or the open files, of any process grow?

    python -m benchmarks soak --minutes 75

`scoremux serve` runs on a repository of its own, with a front door. A client in a process of its own sends rows over
gRPC and HTTP, to Triton itself and through the door; this process publishes new versions, rolls back, retires and
collects garbage. Every process's resident memory and open files are sampled. The first tenth of the time does not
count. Growth is the Theil–Sen slope through the minutes' medians.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks import data
from benchmarks.case import ONE_PROFILE, case
from benchmarks.child import aside
from benchmarks.rows import Row
from benchmarks.serving import Served, serving, write_door
from benchmarks.stores import make_store
from benchmarks.timing import slope

WORDS = "router host packet lost window flow control server sent again address lease offer request never".split()  # noqa: SIM905
ROWS_MOST, WORDS_MOST, COLLECT_EVERY, CHANGE_EVERY_S, SAMPLE_EVERY_S, WARM_UP = 16, 200, 50, 3.0, 5.0, 0.1


def send(stop: threading.Event, ways: list[dict[str, str]], tasks: list[str], rows_per_s: float) -> dict[str, int]:
    """Score random rows at a steady rate, by turns in each way, until `stop`; return how many ended how.

    ways: arguments of the client: url, and for the door ca and token, or for Triton itself the grant.
    """
    from scoremux_client import Response, ScoringClient, Tls
    from scoremux_engine.scoring.permission import HEADER

    clients = [
        ScoringClient(way["url"], tls=Tls(root_certificates=way["ca"]), token=way["token"])
        if "ca" in way
        else ScoringClient(way["url"], headers={HEADER: way["grant"]})
        for way in ways
    ]
    draw, due, counts = random.Random(1), time.monotonic(), {"scored": 0, "retired": 0, "other": 0, "errors": 0}
    for number in range(sys.maxsize):
        if stop.wait(max(0.0, due - time.monotonic())):
            break
        size = draw.randint(1, ROWS_MOST)
        due += size / rows_per_s
        texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, WORDS_MOST))) for _ in range(size)]
        try:
            outcomes = clients[number % len(clients)].score([Response(draw.choice(tasks), text) for text in texts])
        except Exception:
            counts["errors"] += 1
            continue
        kinds = {"OK": "scored", "UNKNOWN_TASK": "retired"}
        for outcome in outcomes:
            counts[kinds.get(outcome.status.value, "other")] += 1
    return counts


def change(repository: Path, stop: threading.Event) -> None:
    """Publish new versions, roll back, retire and collect garbage until `stop` is set."""
    from scoremux_engine.errors import EngineError
    from scoremux_engine.model.backbone import Backbone
    from scoremux_engine.store.store import Store
    from scoremux_engine.store.upkeep import collect

    draw, store = random.Random(2), Store(repository / "store")
    backbone, number = Backbone.open(repository / "backbone" / "1"), 0
    while not stop.wait(CHANGE_EVERY_S):
        number += 1
        folder = draw.choice(data.example_adapters())
        live = folder.name in store.manifest().tasks
        kind = draw.choice(["publish", "publish", "rollback", "retire"]) if live else "publish"
        if kind == "retire":
            store.retire([folder.name])
        elif kind == "rollback":
            with contextlib.suppress(EngineError):  # garbage collection took the version before
                store.rollback(folder.name)
        else:
            with tempfile.TemporaryDirectory() as scratch:
                copy = shutil.copytree(folder, Path(scratch) / folder.name)
                task = json.loads((copy / "task.json").read_bytes())
                (copy / "task.json").write_text(json.dumps({**task, "rubric": f"version {number}"}), encoding="utf-8")
                store.add([copy], backbone)
        if number % COLLECT_EVERY == 0:
            collect(store, keep_days=0)


@dataclass
class Series:
    """Samples of one process: minutes since the start, resident MiB, open files."""

    at_min: list[float] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def add(self, at_min: float, process: psutil.Process) -> None:
        self.at_min.append(at_min)
        self.rss_mib.append(process.memory_info().rss / 2**20)
        self.files.append(process.num_fds())

    def figures(self, since_min: float) -> dict[str, Any]:
        """Return median, slope and open files of what came after `since_min`."""
        counted = [i for i, at in enumerate(self.at_min) if at >= since_min]
        minutes: dict[int, list[float]] = {}
        for i in counted:
            minutes.setdefault(int(self.at_min[i]), []).append(self.rss_mib[i])
        medians = [statistics.median(values) for values in minutes.values()]
        per_h = 60 * slope([float(minute) for minute in minutes], medians) if len(minutes) > 1 else None
        files = {"files_first": self.files[counted[0]], "files_last": self.files[counted[-1]]}
        return {"rss_mib": statistics.median(medians), "mib_per_h": per_h, "minute_rss_mib": medians, **files}


def watched(server: Served, client: int) -> dict[str, psutil.Process]:
    """Return every process to sample, by name."""
    return {
        "scoremux serve": server.process,
        "client": psutil.Process(client),
        "tritonserver": server.named("tritonserver")[0],
        "stub": server.named("triton_python_backend_stub")[0],
        "haproxy": server.named("haproxy")[-1],  # its master starts the worker, which does the work
    }


@case(
    columns=(
        "process; profile; minutes = minutes:g; rows/s = rate:g; rows scored = scored:,; "
        "failed requests = errors; RSS, MiB = rss_mib:.0f; growth, MiB/h = mib_per_h:+.2f; "
        "open files, first = files_first; last = files_last"
    ),
    keys="profile minutes rate process",
    options={
        **ONE_PROFILE,
        "--minutes": {"type": float, "default": 60},
        "--rate": {"type": float, "default": 30, "help": "rows/s (default: %(default)s)"},
    },
)
def soak(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Memory and open files of every process under load, while tasks are published, rolled back and retired."""
    repository = work / "soak"
    shutil.copytree(make_store(work), repository, dirs_exist_ok=True)
    door, access = write_door(work / "door")
    through = {"ca": access["ca"], "token": access["token"]}
    stop = threading.Event()
    profile = ("--profile", arguments.profile, "--front-door", str(door))
    with serving(repository, work / "serve.log", *profile) as server:
        ways = [{"url": url, "grant": access["grant"]} for url in (server.grpc_url, server.http_url)]
        ways += [{"url": f"{scheme}://localhost:{access['port']}", **through} for scheme in ("grpcs", "https")]
        tasks = [folder.name for folder in data.example_adapters()]
        changes = threading.Thread(target=change, args=(repository, stop))
        changes.start()
        try:
            with aside("benchmarks.soak:send", ways, tasks, arguments.rate) as client:
                series = sample(watched(server, client.pid), arguments.minutes)
        finally:
            stop.set()
            changes.join()
    for name, one in series.items():
        setting = {"profile": arguments.profile, "minutes": arguments.minutes, "rate": arguments.rate, "process": name}
        yield {**setting, **one.figures(WARM_UP * arguments.minutes), **client.result}


def sample(processes: dict[str, psutil.Process], minutes: float) -> dict[str, Series]:
    """Sample every process for so long."""
    series, started = {name: Series() for name in processes}, time.monotonic()
    while (at_min := (time.monotonic() - started) / 60) < minutes:
        for name, process in processes.items():
            series[name].add(at_min, process)
        time.sleep(min(SAMPLE_EVERY_S, 6 * minutes))
    return series
