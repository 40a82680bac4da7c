"""Whole jobs of `scoremux score`: how fast they are, and a state's night with five kills and lone rows beside it.

python -m benchmarks job --responses 8000 --rounds 3 --against CHECKOUT
python -m benchmarks beside_jobs --rounds 3 --against CHECKOUT
python -m benchmarks night --responses 20000
python -m benchmarks night                      5 million rows: hours
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.case import ONE_PROFILE, RATE, case
from benchmarks.child import aside, checkout_environment
from benchmarks.cost import ALL, QUERY_VALUE
from benchmarks.lone_rows import RAMP_S, SECONDS, VICTIMS, Lone, one_by_one, send_lone
from benchmarks.rows import ROOT, Row, commit
from benchmarks.serving import SCOREMUX, Served, processor_s, serving
from benchmarks.stores import Rows, make_all_linear, make_store, pool_of, store_of
from benchmarks.timing import figures, interleave, times_as_fast
from scoremux_client import Retries, ScoringClient

KILLS, PARTS, MOST_PART_ROWS = 5, 20, 16_384
JOB_ROWS = 200_000
"""Rows of a job that must outlast the lone rows beside it."""
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
    source, out = work / "night.jsonl", work / f"night-{time.time_ns()}"
    tasks = _write_rows(source, repository, arguments.responses)
    pool = [(draw.choice(tasks), text) for _, text in pool_of("SCIENTSBANK")]
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


@case(
    columns=(
        f"precision; sites; code = code_commit; {RATE}; × query and value, code before = times_query_value:.3f; "
        "× same sites, code before = times_before:.3f; server, processor ms a row = server_ms:.3f; "
        "micro-batches of one task = one_task:.2f; RSS of the scorer, MB = rss_bytes/1e6:,.0f"
    ),
    keys="precision sites code",
    options={
        "--responses": {"type": int, "default": 50_000, "help": "default: %(default)s"},
        "--precision": {"nargs": "+", "default": ["float32", "int8"]},
        "--against": {"type": Path, "help": "a checkout of another commit, which serves the same repositories"},
    },
)
def job(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Short answers to 27 tasks by `scoremux score` against `scoremux serve`."""
    checkouts, earliest = {"this": ROOT}, "this"
    if arguments.against:
        earliest = "before"
        checkouts[earliest] = arguments.against.absolute()
    source = work / "job.jsonl"
    repositories = {QUERY_VALUE: make_store(work), ALL: make_all_linear(work) / "repository"}
    _write_rows(source, repositories[ALL], arguments.responses)
    for precision in arguments.precision:
        with ExitStack() as held:
            works, servers, spent = {}, {}, defaultdict[tuple[str, str], list[float]](list)
            for code, checkout in checkouts.items():
                environment = checkout_environment(checkout)
                for sites, repository in repositories.items():
                    words = ("--profile", "cpu", "--set", f"precision={precision}")
                    log = work / f"{code}-{sites}.log"
                    server = held.enter_context(serving(repository, log, *words, environment=environment))
                    servers[code, sites], out = server, work / "scored"
                    works[code, sites] = partial(_score, source, out, server, environment, spent[code, sites])
            timings = interleave(works, arguments.rounds, warm_up=1)
            for (code, sites), timing in timings.items():
                row = {"precision": precision, "sites": sites, "code": code, "code_commit": commit(checkouts[code])}
                ratios = {"times_query_value": times_as_fast(timing, timings[earliest, QUERY_VALUE])}
                if arguments.against:
                    ratios["times_before"] = times_as_fast(timing, timings[earliest, sites])
                server_ms = 1e3 * statistics.median(spent[code, sites][1:]) / arguments.responses
                looked = {"server_ms": server_ms, **_looked_at(servers[code, sites])}
                yield {**row, **figures(timing, arguments.responses), **ratios, **looked}


@case(
    columns=(
        "precision; beside; code = code_commit; p50 ms = p50_ms:.1f; p99 ms = p99_ms:.1f; longest ms = longest_ms:.0f; "
        "p99, × code before = times_before:.2f; lone rows = lone_rows; failed; load = machine_load:.1f"
    ),
    keys="precision beside code",
    options={
        "--precision": {"nargs": "+", "default": ["float32", "int8"]},
        "--against": {"type": Path, "required": True, "help": "a checkout of another commit"},
        "--rate": {"type": float, "default": 20.0, "help": "lone rows a second (default: %(default)s)"},
        "--seconds": SECONDS,
    },
)
def beside_jobs(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Lone rows idle, beside a job of `scoremux score`, and those of a third task beside two jobs of one task each."""
    checkouts = {"before": arguments.against.absolute(), "this": ROOT}
    repository, source = make_all_linear(work) / "repository", work / "beside.jsonl"
    tasks = _write_rows(source, repository, JOB_ROWS)
    draw, texts = random.Random(9), [text for _, text in pool_of("SCIENTSBANK")]
    pool = [(draw.choice(tasks), text) for text in texts]
    pools = {"nothing": pool, "a job": pool, "two jobs of one task": [(tasks[2], text) for text in texts]}
    for precision in arguments.precision:
        measured = defaultdict[tuple[str, str], list[Lone]](list)
        with ExitStack() as held:
            servers = {}
            for code, checkout in checkouts.items():
                words, environment = ("--set", f"precision={precision}"), checkout_environment(checkout)
                log = work / f"{code}.log"
                servers[code] = held.enter_context(serving(repository, log, *words, environment=environment))
            for number in range(arguments.rounds):
                for beside, code in product(pools, sorted(servers, reverse=bool(number % 2))):
                    url, environment = servers[code].grpc_url, checkout_environment(checkouts[code])
                    disturbed = _disturbed(beside, source, work / f"beside-{code}", url, environment, tasks)
                    with disturbed, ScoringClient(url) as client:
                        ways = [one_by_one(client)]
                        send_lone(ways, pools[beside], arguments.rate, RAMP_S, 99)
                        lone = send_lone(ways, pools[beside], arguments.rate, arguments.seconds, number)
                    measured[beside, code].append(lone)
        for (beside, code), rounds in measured.items():
            ratios = [a.at(0.99) / b.at(0.99) for a, b in zip(rounds, measured[beside, "before"], strict=True)]
            yield {
                "precision": precision,
                "beside": beside,
                "code": code,
                "code_commit": commit(checkouts[code]),
                "rounds": len(rounds),
                "p50_ms": statistics.median(lone.at(0.5) for lone in rounds),
                "p99_ms": statistics.median(lone.at(0.99) for lone in rounds),
                "longest_ms": max(max(lone.ms) for lone in rounds),
                "times_before": statistics.median(ratios),
                "lone_rows": sum(len(lone.ms) for lone in rounds),
                "failed": sum(lone.failed for lone in rounds),
                "machine_load": os.getloadavg()[0],
            }


@contextmanager
def _disturbed(
    beside: str, source: Path, out: Path, url: str, environment: Mapping[str, str], tasks: list[str]
) -> Iterator[None]:
    """Run nothing, a job of another checkout, or two jobs of one task each beside a block."""
    shutil.rmtree(out, ignore_errors=True)
    with ExitStack() as held:
        if beside == "a job":
            command = [SCOREMUX, "score", str(source), "--out", str(out), "--url", url]
            job = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            held.callback(job.wait)
            held.callback(job.kill)
        elif beside != "nothing":
            for task in tasks[:2]:
                held.enter_context(aside("benchmarks.lone_rows:job", url, "SCIENTSBANK", task))
        time.sleep(2 * RAMP_S if beside != "nothing" else 0)
        yield
        if beside == "a job" and job.poll() is not None:
            raise RuntimeError("the job ended before the lone rows did: give it more rows")


def _score(source: Path, out: Path, server: Served, environment: Mapping[str, str], spent: list[float]) -> None:
    """Run a job, and add the processor time that its server took."""
    shutil.rmtree(out, ignore_errors=True)
    before_s = processor_s(server.process)
    command = [SCOREMUX, "score", str(source), "--out", str(out), "--url", server.grpc_url]
    subprocess.run(command, env=environment, capture_output=True, check=True)
    spent.append(processor_s(server.process) - before_s)


def _looked_at(server: Served) -> dict[str, float]:
    """Return the share of micro-batches of one task, and the memory of the process that computes."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    groups = [line.rsplit(" ", 1) for line in lines if line.startswith("scoremux_micro_batch_groups_")]
    one_task = sum(float(count) for name, count in groups if 'le="1"' in name)
    counted = sum(float(count) for name, count in groups if name.startswith("scoremux_micro_batch_groups_count"))
    rss = max(process.memory_info().rss for process in server.named("triton_python"))
    return {"one_task": one_task / max(1.0, counted), "rss_bytes": rss}


def _write_rows(file: Path, repository: Path, count: int) -> list[str]:
    """Write short answers to the tasks of a repository, in random order; return these."""
    tasks = sorted(json.loads((repository / "store" / "manifest.json").read_bytes())["tasks"])
    draw, texts = random.Random(8), [text for _, text in pool_of("SCIENTSBANK")]
    with file.open("w", encoding="utf-8") as lines:
        for number in range(count):
            row = {"id": str(number), "task": draw.choice(tasks), "text": draw.choice(texts)}
            lines.write(json.dumps(row) + "\n")
    return tasks


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
