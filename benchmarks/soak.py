"""Hours of moderate load while tasks come and go: does the memory, or the open files, of any process grow?

    python -m benchmarks.soak --minutes 60

`scoremux serve` runs on a copy of a repository, with room in its bank for half as many versions again as there are
tasks, and with a front door before it. One process sends rows over gRPC and HTTP, to Triton itself and through the
door, another publishes new versions, rolls back, retires and collects
garbage. What is measured: each process's resident memory and open files, every few seconds. Before, `--first-rows`
go through as fast as they can, in requests of all sizes: what is kept for shapes of batches is kept by then.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.adapter_versions import vary
from benchmarks.doors import furnish
from benchmarks.memory import resident_bytes
from benchmarks.provenance import record
from benchmarks.saf import prepare
from benchmarks.trend import LEAST_MINUTES, Series, Trend
from scoremux_client import Response, ScoringClient, Status, Tls
from scoremux_engine.backbone import Backbone
from scoremux_engine.bank.pool import Pool
from scoremux_engine.errors import EngineError
from scoremux_engine.store.collect import collect
from scoremux_engine.store.store import Store
from scoremux_engine.tables import SizeClass
from scoremux_server import processes

WORDS = "router host packet lost window flow control server sent again address lease offer request never".split()  # noqa: SIM905
_ROWS_MOST, _FIRST_ROWS_MOST, _WORDS_MOST, _COLLECT_EVERY = 16, 256, 200, 50
SERVER = "tritonserver"
console = Console(highlight=False)


@dataclass
class Sent:
    """What the client got: rows scored, rows of a task that was retired just then, all others, failed requests."""

    scored: int = 0
    retired: int = 0
    unscored: int = 0
    errors: int = 0


@dataclass(frozen=True)
class Way:
    """How rows get to the server; tls and token: through the door."""

    url: str
    tls: Tls | None = None
    token: str | None = None


def send(
    ways: list[Way], tasks: list[str], first_rows: int, rows_per_s: float, steady: Event, stop: Event, told: Connection
) -> None:
    """Score random rows, by turns in each way, until `stop` is set; then tell the counts.

    The first rows go out one request after the other; then `steady` is set, and the rest comes at a steady rate.
    """
    draw, counts, number, sent = random.Random(1), Sent(), 0, 0
    clients = [ScoringClient(way.url, tls=way.tls, token=way.token) for way in ways]
    due = time.monotonic()
    while not stop.wait(max(0.0, due - time.monotonic())):
        if sent < first_rows:
            size = round(_FIRST_ROWS_MOST ** draw.random())
            due = time.monotonic()
        else:
            steady.set()
            size = draw.randint(1, _ROWS_MOST)
            due += size / rows_per_s
        rows = [
            Response(draw.choice(tasks), " ".join(draw.choices(WORDS, k=draw.randint(1, _WORDS_MOST))))
            for _ in range(size)
        ]
        try:
            statuses = [scored.status for scored in clients[number % len(clients)].score(rows)]
        except Exception:
            counts.errors += 1
            continue
        number, sent = number + 1, sent + size
        counts.scored += statuses.count(Status.OK)
        counts.retired += statuses.count(Status.UNKNOWN_TASK)
        counts.unscored += sum(status not in (Status.OK, Status.UNKNOWN_TASK) for status in statuses)
    for client in clients:
        client.close()
    told.send(asdict(counts))


def churn(repository: Path, originals: Path, pause_s: float, stop: Event, told: Connection) -> None:
    """Change the store every `pause_s` until `stop` is set; then tell how often what was done."""
    draw, store = random.Random(2), Store(repository / "store")
    backbone = Backbone.open(repository / "backbone" / "1")
    folders, kinds, number = sorted(originals.iterdir()), {"publish": 0, "rollback": 0, "retire": 0, "gc": 0}, 0
    while not stop.wait(pause_s):
        number += 1
        folder = draw.choice(folders)
        live = folder.name in store.manifest().tasks
        kind = draw.choice(["publish", "publish", "rollback", "retire"]) if live else "publish"
        if kind == "retire":
            store.retire([folder.name])
        elif kind == "rollback":
            try:
                store.rollback(folder.name)
            except EngineError:  # garbage collection took the version before
                continue
        else:
            publish(store, backbone, folder, number)
        kinds[kind] += 1
        if number % _COLLECT_EVERY == 0:
            collect(store, keep_days=0)
            kinds["gc"] += 1
    told.send(kinds)


def publish(store: Store, backbone: Backbone, original: Path, number: int) -> None:
    """Publish a version of a task that there never was: each weight a little off."""
    with tempfile.TemporaryDirectory() as scratch:
        store.add([vary(original, Path(scratch) / original.name, 1 + number / 65536)], backbone)


def bank_bytes(repository: Path) -> int:
    """Return room for half as many versions again as there are tasks: soon full, so that versions leave."""
    backbone, store = Backbone.open(repository / "backbone" / "1"), Store(repository / "store")
    slot = Pool.bytes_of(backbone.spec, SizeClass(16, 8), {})
    return slot * len(store.manifest().tasks) * 3 // 2


@contextmanager
def serving(
    repository: Path, profile: str, log: Path, door: Path
) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Run `scoremux serve`; yield its process and its addresses by name."""
    command = [str(Path(sys.executable).with_name("scoremux")), "serve", "--repository", str(repository)]
    command += [f"--{name}-port=0" for name in ("grpc", "http", "metrics", "watch")]
    command += ["--profile", profile, "--set", f"bank_bytes={bank_bytes(repository)}", "--log", str(log)]
    command += ["--front-door", str(door)]
    served = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    addresses: dict[str, str] = {}
    try:
        assert served.stdout
        for line in served.stdout:
            name, _, address = line.strip().partition(" ")
            addresses[name] = address.strip()
            if line.startswith("ready;"):
                break
        else:
            raise SystemExit("scoremux serve ended before it was ready")
        yield served, addresses
    finally:
        served.terminate()
        served.wait(90)


def watch(pids: dict[str, int], minutes: float, every_s: float) -> dict[str, Series]:
    """Sample every process until it ran for so long; time in which a machine holds all of them does not count."""
    series = {name: Series() for name in pids}
    at_s, said_min, before = 0.0, -1, time.monotonic()
    while at_s < minutes * 60:
        for name, pid in pids.items():
            series[name].add(at_s / 60, *sample(name, pid))
        if int(at_s / 60) > said_min:
            said_min = int(at_s / 60)
            now = ", ".join(f"{name} {one.rss_mib[-1]:.0f} MiB {one.files[-1]} files" for name, one in series.items())
            console.print(f"{said_min} min: {now}", soft_wrap=True)
        time.sleep(every_s)
        now_s = time.monotonic()
        at_s += min(now_s - before, 2 * every_s)
        before = now_s
    return series


def children(pid: int) -> list[int]:
    """Return the ids of the processes that a process's threads started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def sample(name: str, pid: int) -> tuple[float, int]:
    """Return a process's resident MiB and its number of open files."""
    try:
        return resident_bytes(pid) / 2**20, sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except ProcessLookupError as error:
        raise SystemExit(f"{name} ended") from error


def soak(repository: Path, args: argparse.Namespace) -> tuple[dict[str, Series], dict[str, Any]]:
    """Return the series of every process, and what happened meanwhile."""
    store = Store(repository / "store")
    tasks = store.manifest().tasks
    originals = repository / "originals"
    for task, digest in tasks.items():
        shutil.copytree(store.package_folder(digest), originals / task)
    spawn = multiprocessing.get_context("spawn")
    steady, stop = spawn.Event(), spawn.Event()
    files = repository / "door"
    files.mkdir()
    door, tls, token, port = furnish(files)
    with serving(repository, args.profile, repository / "triton.log", door) as (served, addresses):
        pipes = {name: spawn.Pipe(duplex=False) for name in ("client", "writer")}
        ways = [Way(addresses["gRPC"]), Way(addresses["HTTP"])]
        ways += [Way(f"{scheme}://localhost:{port}", tls, token) for scheme in ("grpcs", "https")]
        sender = (ways, sorted(tasks), args.first_rows, args.rate, steady, stop, pipes["client"][1])
        changer = (repository, originals, args.change_s, stop, pipes["writer"][1])
        workers = [spawn.Process(target=send, args=sender), spawn.Process(target=churn, args=changer)]
        for worker in workers:
            worker.start()
        started = {psutil.Process(pid).name(): pid for pid in children(served.pid)}
        pids = {"watcher": served.pid, SERVER: started[SERVER]}
        pids |= {f"stub of {model}": pid for pid, model in processes.stubs(started[SERVER]).items()}
        (pids[processes.PROXY],) = children(started[processes.PROXY])  # the master's worker
        pids |= {"client": workers[0].pid or 0, "writer": workers[1].pid or 0}
        try:
            while not steady.wait(1):
                if not workers[0].is_alive():
                    raise SystemExit("client ended")
            series = watch(pids, args.minutes, args.every_s)
            with urllib.request.urlopen(addresses["health"], timeout=10) as answer:
                health = json.load(answer)
        finally:
            stop.set()
            told = [pipes[name][0].recv() if pipes[name][0].poll(60) else {} for name in pipes]
            for worker in workers:
                worker.join(30)
    return series, {**told[0], "changes": told[1], "restarts": health["restarts"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, help="default: MiniLM with the adapters of examples/saf")
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--first-rows", type=int, default=40_000, help="rows before the time begins")
    parser.add_argument("--warm-up", type=float, default=0.25, help="share of the time whose samples do not count")
    parser.add_argument("--rate", type=float, default=8, help="rows/s")
    parser.add_argument("--change-s", type=float, default=3, help="seconds between changes of the store")
    parser.add_argument("--every-s", type=float, default=5, help="seconds between samples")
    args = parser.parse_args()
    if args.minutes * (1 - args.warm_up) < LEAST_MINUTES:
        parser.error(f"after the warm-up, {LEAST_MINUTES} minutes are the least")
    with tempfile.TemporaryDirectory() as scratch:
        repository = Path(scratch) / "repository"
        if args.repository:
            shutil.copytree(args.repository, repository)
        else:
            prepare(repository)
        series, happened = soak(repository, args)
    trends = {name: one.trend(args.warm_up * args.minutes) for name, one in series.items()}
    show(trends)
    console.print(happened)
    settings = {key: getattr(args, key) for key in ("profile", "first_rows", "minutes", "warm_up", "rate", "change_s")}
    figures = {name: {**asdict(trends[name]), "minute_rss_mib": one.minutes()} for name, one in series.items()}
    command = f"python -m benchmarks.soak --minutes {args.minutes:g} --rate {args.rate:g} --warm-up {args.warm_up:g}"
    record("soak", command, {**settings, **happened, "processes": figures})


def show(trends: dict[str, Trend]) -> None:
    table = Table("process", "RSS, MiB", "growth, MiB/h (95 %)", "memory", "open files, first to last (most)", "files")
    for name, trend in trends.items():
        growth = f"{trend.mib_per_h:+.2f} ± {trend.plus_minus:.2f}"
        files = f"{trend.files_first} to {trend.files_last} ({trend.files_most})"
        grow = "grow" if trend.files_grow else "do not grow"
        table.add_row(name, f"{trend.rss_mib:.0f}", growth, trend.verdict, files, grow)
    console.print(table)


if __name__ == "__main__":
    main()
