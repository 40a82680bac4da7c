"""The report on millions of rows."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batch_jobs import SCOREMUX
from proofs import Result, Scaled

ROWS, TASKS, PART = 5_000_000, 1_000, 16_384


def write_rows(folder: Path, rows: int, tasks: int) -> None:
    """Write an output in parts, as `scoremux score` does, and a truth with a second human and four groups."""
    chance = np.random.default_rng(0)
    human = chance.integers(0, 5, rows)
    (folder / "scored").mkdir()
    for number, first in enumerate(range(0, rows, PART)):
        place = np.arange(first, min(rows, first + PART))
        level = np.clip(human[place] + chance.choice([-1, 0, 0, 0, 1], len(place)), 0, 4)
        sure = 0.5 * chance.dirichlet(np.ones(5), len(place))
        sure[np.arange(len(place)), level] += 0.5
        columns = {
            "id": [f"r{n:09d}" for n in place],
            "task": [f"task-{n % tasks:04d}" for n in place],
            "status": ["OK"] * len(place),
            "level": pa.array(level, pa.int32()),
            "probabilities": pa.array(list(sure.astype(np.float32)), pa.list_(pa.float32())),
            "version": [f"{n % tasks:064x}" for n in place],
        }
        pq.write_table(pa.table(columns), folder / "scored" / f"part-{number:06}.parquet")
    order = chance.permutation(rows)
    again = np.clip(human + chance.choice([-1, 0, 0, 0, 1], rows), 0, 4)[order]
    truth = {
        "id": [f"r{n:09d}" for n in order],
        "level": human[order],
        "again": pa.array(again, mask=chance.random(rows) > 0.1),
        "group": chance.choice(["a", "b", "c", "d"], rows),
    }
    pq.write_table(pa.table(truth), folder / "truth.parquet")


def test_five_million_rows_of_a_thousand_tasks(tmp_path: Path, scaled: Scaled, result: Result) -> None:
    rows = scaled(ROWS)
    write_rows(tmp_path, rows, min(TASKS, rows))
    words = [SCOREMUX, "report", tmp_path / "scored", "--truth", tmp_path / "truth.parquet", "--column", "second=again"]
    words += ["--column", "group", "--out", tmp_path / "report.html"]
    # A process between, whose only child is the command: its largest memory is the command's.
    code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); r = resource.getrusage(-1)"
    code += "; print(r.ru_utime + r.ru_stime, r.ru_maxrss / 1e6)"
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], check=True, capture_output=True, text=True
    ).stdout
    took_s = time.perf_counter() - started
    computed_s, memory_gb = map(float, done.split()[-2:])
    figure = f"{took_s:.0f} s, of which {computed_s:.0f} s of processor time; {memory_gb:.2f} GB"
    result(f"report on {ROWS:,} rows, {TASKS:,} tasks, 4 groups", figure)
    assert computed_s <= 120
    assert memory_gb <= 2
