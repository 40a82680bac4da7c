"""Publishes, rollbacks and retires under load: how soon they are served, and whether any row fails or changes bits.

    python -m benchmarks.live_tasks --data ../shared/data/saf --changes 1000

A real Triton scores a mixed stream from two clients while one writer changes the store. Afterwards every row is scored
again, alone and in this process, by the version that its answer names. A row may come back as UNKNOWN_TASK only while
its task was retired.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.adapter_versions import vary
from benchmarks.provenance import record
from benchmarks.saf import ADAPTERS, prepare
from benchmarks.senders import Senders
from benchmarks.workload import sample
from scoremux_client import Response, Scored, ScoringClient, Status
from scoremux_engine import Engine
from scoremux_engine.backbone import Backbone
from scoremux_engine.errors import StoreError
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_engine.store.store import Store
from scoremux_server.endpoints import Endpoints
from scoremux_server.profile import Profile
from scoremux_server.server import Server

COMMAND = "python -m benchmarks.live_tasks --data SAF"
RUNNER = RunnerChoice("openvino", precision="int8")
Versions = dict[str, list[Path]]
_BATCH_ROWS, _CLIENTS, _VERSIONS = 32, 2, 4


def make_versions(target: Path) -> Versions:
    """Write a few versions of each example adapter, each trained weight a little off; return folders by task."""
    versions: Versions = {}
    for original in sorted(p for p in ADAPTERS.iterdir() if p.is_dir()):
        task = json.loads((original / "task.json").read_text(encoding="utf-8"))["id"]
        for number in range(_VERSIONS):
            folder = vary(original, target / f"{original.name}-{number}", 1 + number / 64)
            versions.setdefault(task, []).append(folder)
    return versions


@dataclass
class Timeline:
    """When each task was not live: (from, to) in seconds of the monotonic clock."""

    gaps: dict[str, list[list[float]]] = field(default_factory=dict)

    def retired(self, task: str, at: float) -> None:
        self.gaps.setdefault(task, []).append([at, float("inf")])

    def back(self, task: str, at: float) -> None:
        for gap in self.gaps.get(task, []):
            gap[1] = min(gap[1], at)

    def touches(self, task: str, begin: float, end: float) -> bool:
        return any(begin <= gap[1] and end >= gap[0] for gap in self.gaps.get(task, []))


class Load(Senders):
    """Clients that score random rows until told to stop, and everything they got."""

    def __init__(self, url: str, texts: list[str], tasks: list[str]) -> None:
        super().__init__(self._send, [(seed,) for seed in range(_CLIENTS)])
        self._url, self._texts, self._tasks = url, texts, tasks
        self.answers: list[tuple[float, float, Response, Scored]] = []
        self.errors: list[str] = []

    def _send(self, seed: int) -> None:
        draw = random.Random(seed)
        with ScoringClient(self._url) as client:
            while not self.stop.is_set():
                rows = [Response(draw.choice(self._tasks), draw.choice(self._texts)) for _ in range(_BATCH_ROWS)]
                begin = time.monotonic()
                try:
                    scored = client.score(rows)
                except Exception as error:
                    self.errors.append(f"{type(error).__name__}: {error}")
                    continue
                end = time.monotonic()
                self.answers.extend((begin, end, row, one) for row, one in zip(rows, scored, strict=True))


def change(store: Store, backbone: Backbone, versions: Versions, draw: random.Random, line: Timeline) -> str:
    """Make one random change; return its kind."""
    task = draw.choice(sorted(versions))
    live = store.manifest().tasks
    kind = draw.choice(["publish", "publish", "rollback", "retire"]) if task in live else "publish"
    if kind == "retire":
        line.retired(task, time.monotonic())
        store.retire([task])
    elif kind == "rollback":
        try:
            store.rollback(task)
        except StoreError:
            return "rollback without a version before"
    else:
        store.add([draw.choice(versions[task])], backbone)
        # A batch that had begun before the change may still be without the task.
        line.back(task, time.monotonic() + 0.5)
    return kind


def publish_times(store: Store, backbone: Backbone, versions: Versions, url: str, count: int) -> list[float]:
    """Return seconds from the publish's return to the first answer of the new version, over one connection."""
    draw = random.Random(7)
    seconds = []
    with ScoringClient(url) as client:
        for number in range(count):
            task = draw.choice(sorted(versions))
            fresh = vary(versions[task][0], versions[task][0].parent / f"fresh-{number}", 1.5 + number / 256)
            new = store.add([fresh], backbone)[0].after
            begin = time.perf_counter()
            while client.score([Response(task, "It hands out addresses.")])[0].version != new:
                pass
            seconds.append(time.perf_counter() - begin)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the SAF folder")
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--publishes", type=int, default=60)
    args = parser.parse_args()
    texts = [row.text for row in sample(args.data, 200)]
    draw, line = random.Random(1), Timeline()
    kinds: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as scratch:
        repository = prepare(Path(scratch) / "repository")
        versions = make_versions(Path(scratch) / "adapters")
        backbone, store = Backbone.open(repository / "backbone" / "1"), Store(repository / "store")
        with Server(repository, Endpoints.choose(), profile=Profile.of(RUNNER)) as server:
            seconds = publish_times(store, backbone, versions, server.endpoints.grpc_url, args.publishes)
            with Load(server.endpoints.grpc_url, texts, sorted(versions)) as load:
                for _ in range(args.changes):
                    kind = change(store, backbone, versions, draw, line)
                    kinds[kind] = kinds.get(kind, 0) + 1
                    time.sleep(draw.random() / 20)
        failed, wrong = judge(load, line, Engine.open(repository, runner=RUNNER))
    ms = [1e3 * s for s in seconds]
    table = Table("live tasks", "")
    table.add_row("publish → first score by it", f"median {statistics.median(ms):.1f} ms, most {max(ms):.1f} ms")
    table.add_row("changes", ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())))
    table.add_row("rows scored meanwhile", f"{len(load.answers):,}")
    table.add_row("failed rows", str(failed))
    table.add_row("rows with other bits than their version's alone", str(wrong))
    Console().print(table)
    figures = {"publish_ms_median": statistics.median(ms), "publish_ms_most": max(ms), "changes": kinds}
    record("live_tasks", COMMAND, {**figures, "rows": len(load.answers), "failed": failed, "wrong": wrong})


def judge(load: Load, line: Timeline, engine: Engine) -> tuple[int, int]:
    """Return rows that failed, and scored rows that differ from what their version gives alone."""
    failed, wrong = len(load.errors) * _BATCH_ROWS, 0
    alone: dict[tuple[str | bytes, str, str], Scored] = {}
    for begin, end, row, got in load.answers:
        if got.status is not Status.OK:
            failed += not (got.status is Status.UNKNOWN_TASK and line.touches(row.task, begin, end))
            continue
        key = (row.text, row.task, got.version)
        if key not in alone:
            alone[key] = engine.score([row.text], [f"{row.task}@{got.version}"])[0]
        want = alone[key]
        wrong += (got.level, got.probabilities, got.version) != (want.level, want.probabilities, want.version)
    return failed, wrong


if __name__ == "__main__":
    main()
