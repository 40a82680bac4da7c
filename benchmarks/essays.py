"""Lone short answers, without and beside an essay that is read in windows.

python -m benchmarks beside_essays --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks import data
from benchmarks.case import case
from benchmarks.lone_rows import RAMP_S, SECONDS, Lone, one_by_one, send_lone
from benchmarks.rows import Row
from benchmarks.serving import serving
from benchmarks.stores import make_store, pool_of
from scoremux_client import Response, ScoringClient
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.store.store import Store

ESSAY, PAUSE_S = "essay", 0.5
WINDOWS = {"tokens": 256, "overlap": 32, "most": 8}


@case(
    columns=(
        "precision; tokens of the essay = tokens:,; without: p50 ms = idle_p50_ms:.1f; p99 ms = idle_p99_ms:.1f; "
        "beside: p50 ms = p50_ms:.1f; p99 ms = p99_ms:.1f; p99, × without = times_without:.2f; spread = spread:.2f; "
        "an essay, ms = essay_ms:.0f; lone rows = lone_rows; failed; load = machine_load:.1f"
    ),
    keys="precision tokens",
    options={
        "--precision": {"nargs": "+", "default": ["float32"]},
        "--tokens": {"type": int, "default": 1500, "help": "of the essay (default: %(default)s)"},
        "--rate": {"type": float, "default": 20.0, "help": "lone rows a second (default: %(default)s)"},
        "--seconds": SECONDS,
    },
    defaults={"rounds": 3},
)
def beside_essays(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Lone short answers, without and beside one essay at a time, half a second after the last one."""
    repository = make_store(work)
    tasks = _add_essay(repository, work / ESSAY)
    draw = random.Random(9)
    pool = [(draw.choice(tasks), text) for _, text in pool_of("SCIENTSBANK")]
    essay = Response(ESSAY, data.text_of(arguments.tokens, 1))
    for precision in arguments.precision:
        rounds, essay_s = list[tuple[Lone, Lone]](), list[float]()
        with (
            serving(repository, work / f"{precision}.log", "--set", f"precision={precision}") as server,
            ScoringClient(server.grpc_url) as client,
        ):

            def lone(seconds: float, seed: int, client: ScoringClient = client) -> Lone:
                return send_lone([one_by_one(client)], pool, arguments.rate, seconds, seed)

            for number in range(arguments.rounds):
                lone(RAMP_S, 99)
                without = lone(arguments.seconds, number)
                with _essays(server.grpc_url, essay, essay_s):
                    lone(RAMP_S, 99)
                    rounds.append((without, lone(arguments.seconds, number)))
        ratios = [beside.at(0.99) / without.at(0.99) for without, beside in rounds]
        ms = {
            f"{when}p{round(100 * q)}_ms": statistics.median(phases[place].at(q) for phases in rounds)
            for place, when in enumerate(("idle_", ""))
            for q in (0.5, 0.99)
        }
        yield {
            "precision": precision,
            "tokens": arguments.tokens,
            "rounds": len(rounds),
            **ms,
            "times_without": statistics.median(ratios),
            "spread": (max(ratios) - min(ratios)) / statistics.median(ratios),
            "essay_ms": 1e3 * float(np.median(essay_s)),
            "lone_rows": sum(len(beside.ms) for _, beside in rounds),
            "failed": sum(without.failed + beside.failed for without, beside in rounds),
            "machine_load": os.getloadavg()[0],
        }


def _add_essay(repository: Path, folder: Path) -> list[str]:
    """Publish a task with windows beside the 27, whose ids are returned."""
    examples = data.example_adapters()
    shutil.copytree(examples[0], folder, dirs_exist_ok=True)
    task = {"id": ESSAY, "levels": json.loads((folder / "task.json").read_bytes())["levels"]}
    (folder / "task.json").write_text(json.dumps({**task, "input": {"windows": WINDOWS}}), encoding="utf-8")
    Store(repository / "store").add([folder], Backbone.open(repository / "backbone" / "1"))
    return [example.name for example in examples]


@contextmanager
def _essays(url: str, essay: Response, seconds: list[float]) -> Iterator[None]:
    """Send an essay again and again while a block runs; add how long each took."""
    stop = threading.Event()

    def send() -> None:
        with ScoringClient(url) as client:
            while not stop.wait(PAUSE_S):
                begun = time.perf_counter()
                (scored,) = client.score([essay])
                seconds.append(time.perf_counter() - begun)
                if not scored.ok or scored.truncated:
                    raise RuntimeError(f"the essay got {scored.status}, truncated: {scored.truncated}")

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        stop.set()
        sender.join()
