"""A state's night: short answers to many tasks by one `scoremux score`, five kills, lone rows beside it.

python -m benchmarks night --responses 20000
python -m benchmarks night                      5 million rows: hours
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.case import ONE_PROFILE, case
from benchmarks.contention import VICTIMS, Lone, one_by_one, send_lone
from benchmarks.rows import Row
from benchmarks.serving import SCOREMUX, Served, serving
from benchmarks.stores import Rows, pool_of, store_of
from scoremux_client import Retries, ScoringClient

KILLS, PARTS, MOST_PART_ROWS = 5, 20, 16_384
IDLE_S, LOOK_EVERY_S, PATIENCE_S = 20.0, 5.0, 600.0


@case(
    columns=(
        "profile; rows = rows:,; tasks = tasks:,; hours = hours:.2f; rows/s = rows_per_s:,.0f; kills; lost; twice; "
        "rows without a score = unscored; lone rows = lone_rows; failed; idle p99 ms = idle_p99_ms:.0f; "
        "p50 ms = p50_ms:.0f; p99 ms = p99_ms:.0f; p99 without kills, ms = p99_between_ms:.0f; load = machine_load:.1f"
    ),
    keys="profile rows tasks",
    options={
        **ONE_PROFILE,
        "--responses": {"type": int, "default": 5_000_000, "help": "default: %(default)s"},
        "--tasks": {"type": int, "default": 1000},
        "--rate": {"type": float, "default": 5.0, "help": "lone rows a second (default: %(default)s)"},
    },
)
def night(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """A job over short answers to many tasks, with kills and lone rows beside it."""
    repository, draw = store_of(arguments.tasks, work), random.Random(8)
    tasks = sorted(json.loads((repository / "store" / "manifest.json").read_bytes())["tasks"])
    pool = [(draw.choice(tasks), text) for _, text in pool_of("SCIENTSBANK")]
    source, out = work / "night.jsonl", work / f"night-{time.time_ns()}"
    with source.open("w", encoding="utf-8") as lines:
        for number in range(arguments.responses):
            row = {"id": str(number), "task": draw.choice(tasks), "text": draw.choice(pool)[1]}
            lines.write(json.dumps(row) + "\n")
    part_rows = min(MOST_PART_ROWS, -(-arguments.responses // PARTS))
    with serving(repository, work / "serve.log", "--profile", arguments.profile) as server:
        command = [SCOREMUX, "score", str(source), "--out", str(out), "--url", server.grpc_url]
        command += ["--part-rows", str(part_rows), "--patience", str(PATIENCE_S)]
        retries = Retries(patience_s=PATIENCE_S)
        with ScoringClient(server.grpc_url, retries=retries, timeout_s=PATIENCE_S) as client:
            ways = [one_by_one(client)]
            idle = send_lone(ways, pool, arguments.rate, IDLE_S, 0)
            begun, job = time.monotonic(), subprocess.Popen(command)
            beside = [*_beside(job, server, out, -(-arguments.responses // part_rows), ways, pool, arguments.rate)]
            seconds = time.monotonic() - begun
    if job.returncode:
        raise RuntimeError(f"scoremux score ended with {job.returncode}")
    lone = Lone([ms for one, _ in beside for ms in one.ms], sum(one.failed for one, _ in beside))
    between = Lone([ms for one, killed in beside if not killed for ms in one.ms], 0)
    yield {
        "profile": arguments.profile,
        "tasks": arguments.tasks,
        "hours": seconds / 3600,
        "rows_per_s": arguments.responses / seconds,
        "kills": sum(killed for _, killed in beside),
        **_counted(out, arguments.responses),
        "lone_rows": len(lone.ms),
        "failed": lone.failed,
        "idle_p99_ms": idle.at(0.99),
        "p50_ms": lone.at(0.5),
        "p99_ms": lone.at(0.99),
        "p99_between_ms": between.at(0.99),
        "rate": arguments.rate,
        "machine_load": os.getloadavg()[0],
    }


def _beside(
    job: subprocess.Popen[bytes], server: Served, out: Path, parts: int, ways: list[Any], pool: Rows, rate: float
) -> Iterator[tuple[Lone, bool]]:
    """Send lone rows until the job ends, and kill when another sixth of its parts is done; yield rows and kills."""
    killed = 0
    while job.poll() is None:
        due = len(list(out.glob("part-*.parquet"))) >= (killed + 1) * parts / (KILLS + 1) and killed < KILLS
        if due:
            victims = server.named(VICTIMS[killed % len(VICTIMS)])
            due = bool(victims)
            for victim in victims[:1]:
                victim.send_signal(signal.SIGKILL)
                killed += 1
        yield send_lone(ways, pool, rate, LOOK_EVERY_S, killed), due


def _counted(out: Path, rows: int) -> dict[str, int]:
    """Return how often rows are in the parts, and how many have no score."""
    table = pq.read_table(sorted(out.glob("part-*.parquet")), columns=["id", "status"])
    ids = Counter(table["id"].to_pylist())
    statuses = Counter(table["status"].to_pylist())
    return {
        "rows": rows,
        "lost": rows - len(ids),
        "twice": sum(ids.values()) - len(ids),
        "unscored": sum(statuses.values()) - statuses["OK"],
    }
