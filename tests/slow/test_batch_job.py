"""`scoremux score` on millions of rows: how much memory it takes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs import SCOREMUX
from peers import answer, listening
from proofs import Result, Scaled

PEAK_MB = 800


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with listening(answer) as address:
        yield address


def watched(command: list[str], status: int) -> tuple[float, float]:
    """Run a command that ends with `status`; return seconds and the most memory it had, in MB."""
    started, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        seen = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, seen.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.1)
        _, said = process.communicate()
    assert process.returncode == status, said.decode()[-2000:]
    return time.perf_counter() - started, peak / 1e6


def score(source: Path, out: Path, url: str, status: int = 0) -> tuple[float, float]:
    """Score a file against the stub server; return seconds and peak MB."""
    return watched([SCOREMUX, "score", str(source), "--out", str(out), "--url", url], status)


def test_millions_of_rows_go_through_in_little_memory(url: str, tmp_path: Path, scaled: Scaled, result: Result) -> None:
    source, rows, block = tmp_path / "in.parquet", scaled(5_000_000), 100_000
    schema = pa.schema([("id", pa.string()), ("task", pa.string()), ("text", pa.string())])
    with pq.ParquetWriter(source, schema) as file:
        for start in range(0, rows, block):
            numbers = range(start, min(rows, start + block))
            texts = [f"{n} the router hands out addresses to hosts that ask for one with a broadcast" for n in numbers]
            columns = [[f"r{n}" for n in numbers], [f"task-{n % 27}" for n in numbers], texts]
            file.write_table(pa.table(columns, schema=schema))
    wall_s, peak_mb = score(source, tmp_path / "out", url)
    written = sum(pq.read_metadata(part).num_rows for part in (tmp_path / "out").glob("part-*.parquet"))
    result(
        f"`scoremux score`, {rows:,} rows of Parquet against a server in Python",
        f"{rows / wall_s:,.0f} rows/s, {peak_mb:.0f} MB at most",
    )
    assert written == rows
    assert peak_mb <= PEAK_MB
