"""`scoremux score`: `kill -9` in the middle, and files that could cost it its memory."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs import SCOREMUX, arguments, content, finish, kill_and_finish, write_sources
from proofs import Result, Scaled
from stub_server import stub_server

PEAK_MB = 800
LINE_MIB, WIDE_ROWS, BAD_ROWS = 2048, 2000, 5_000_000
BLOCK = b"x" * (1 << 20)

Expected = tuple[int, list[tuple[int, str]] | int]
"""Rows that come out, and what is rejected: line and reason, or only how many."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with stub_server() as address:
        yield address


def test_a_job_that_was_killed_ends_with_the_same_bytes(
    url: str, tmp_path: Path, scaled: Scaled, result: Result
) -> None:
    draw, kills, met, jobs, different = random.Random(1), scaled(200), 0, 0, 0
    sources = write_sources(tmp_path / "in", 20_000)
    finish(arguments(sources, tmp_path / "whole", url))
    expected = content(tmp_path / "whole")
    while met < kills:
        out, most = tmp_path / f"job-{jobs}", min(kills - met, draw.randint(1, 12))
        met += kill_and_finish(arguments(sources, out, url), out, most, 100, draw)
        jobs += 1
        different += content(out) != expected
    result(
        f"`kill -9` of the batch job at {met} random moments, resumed each time",
        f"{different} of {jobs} jobs with other output",
    )
    assert different == 0


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
        f"`scoremux score`, {rows:,} rows of Parquet against a server that answers at once",
        f"{rows / wall_s:,.0f} rows/s, {peak_mb:.0f} MB at most",
    )
    assert written == rows
    assert peak_mb <= PEAK_MB


def wide(path: Path, scaled: Scaled) -> Expected:
    """Write rows of 1 MiB each, all different."""
    count = scaled(WIDE_ROWS)
    texts = (f"{n} ".ljust(1 << 20, "x") for n in range(count))
    if path.suffix == ".parquet":
        schema = pa.schema([("task", pa.string()), ("text", pa.string())])
        # pyarrow looks at a page's size every 1,024 rows unless told; and a page is decoded as a whole.
        with pq.ParquetWriter(path, schema, write_batch_size=8) as writer:
            while block := list(islice(texts, 500)):  # a row group of 500 MB each
                writer.write_table(pa.table([["t"] * len(block), block], schema=schema))
    else:
        with path.open("wb") as file:
            file.write(header(path))
            file.writelines(row(path, text.encode()) for text in texts)
    return count, 0


def line(path: Path, scaled: Scaled) -> Expected:
    """Write one line of 2 GB between two good rows."""
    with path.open("wb") as file:
        file.write(header(path) + row(path, b"first"))
        for _ in range(max(5, scaled(LINE_MIB))):
            file.write(BLOCK)
        file.write(b"\n" + row(path, b"last"))
    return 2, [(2 + bool(header(path)), "longer than 4,194,304 bytes")]


def rejected(path: Path, scaled: Scaled) -> Expected:
    """Write 5 million rows that cannot be read between two good ones."""
    bad, thousands = b'{"task": "t"}\n' if path.suffix == ".jsonl" else b"t\n", scaled(BAD_ROWS // 1000)
    with path.open("wb") as file:
        file.write(header(path) + row(path, b"first"))
        for _ in range(thousands):
            file.write(bad * 1000)
        file.write(row(path, b"last"))
    return 2, thousands * 1000


def header(path: Path) -> bytes:
    return b"task,text\n" if path.suffix == ".csv" else b""


def row(path: Path, text: bytes) -> bytes:
    return b"t," + text + b"\n" if path.suffix == ".csv" else b'{"task": "t", "text": "' + text + b'"}\n'


def rejections(out: Path) -> Iterator[tuple[int, str]]:
    for part in sorted((out / "_rejected").glob("part-*.jsonl")):
        with part.open(encoding="utf-8") as file:
            for rejection in map(json.loads, file):
                yield rejection["line"], rejection["reason"]


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (wide, "parquet"),
        (wide, "jsonl"),
        (wide, "csv"),
        (line, "jsonl"),
        (line, "csv"),
        (rejected, "jsonl"),
        (rejected, "csv"),
    ],
)
def test_a_hard_file_costs_little_memory_and_no_row(
    make: Callable[[Path, Scaled], Expected], kind: str, url: str, tmp_path: Path, scaled: Scaled, result: Result
) -> None:
    source, out = tmp_path / f"in.{kind}", tmp_path / "out"
    rows, bad = make(source, scaled)
    _, peak_mb = score(source, out, url, status=3 if bad else 0)
    written = sum(pq.read_metadata(part).num_rows for part in out.glob("part-*.parquet"))
    found = sum(1 for _ in rejections(out)) if isinstance(bad, int) else list(rejections(out))
    name = {"wide": "rows of 1 MiB", "line": "a line of 2 GB", "rejected": "5 million unreadable rows"}[make.__name__]
    result(
        f"`scoremux score`, {name}, {kind}, {source.stat().st_size / 1e6:,.0f} MB",
        f"{peak_mb:.0f} MB at most, every row accounted for",
    )
    assert (written, found) == (rows, bad)
    assert peak_mb <= PEAK_MB
    source.unlink()
