"""`scoremux score` of millions of rows against a server that answers at once: rows/s, and the client's memory.

python -m benchmarks.batch_stream --rows 5000000
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.provenance import record
from benchmarks.stub_server import stub_server

COMMAND = "python -m benchmarks.batch_stream"
_BLOCK_ROWS = 100_000
_WORDS = [
    "the",
    "router",
    "hands",
    "out",
    "addresses",
    "to",
    "hosts",
    "and",
    "a",
    "client",
    "asks",
    "for",
    "one",
    "with",
    "a",
    "broadcast",
]


def write_input(folder: Path, rows: int, kind: str) -> Path:
    """Write rows of 27 tasks, each text once, about 70 bytes long."""
    path, draw = folder / f"in.{kind}", np.random.default_rng(5)
    schema = pa.schema([("id", pa.string()), ("task", pa.string()), ("text", pa.string())])
    opened: Any = pq.ParquetWriter(path, schema) if kind == "parquet" else path.open("w", encoding="utf-8")
    with opened as file:
        for start in range(0, rows, _BLOCK_ROWS):
            count = min(_BLOCK_ROWS, rows - start)
            words = draw.choice(_WORDS, (count, 12))
            numbers = range(start, start + count)
            texts = [f"{n} {' '.join(w)}" for n, w in zip(numbers, words.tolist(), strict=True)]
            tasks = [f"task-{t:02}" for t in draw.integers(0, 27, count).tolist()]
            ids = [f"r{n:09}" for n in numbers]
            if kind == "parquet":
                file.write_table(pa.table([ids, tasks, texts], schema=schema))
            elif kind == "csv":
                file.write("id,task,text\n" if not start else "")
                file.writelines(f"{i},{t},{x}\n" for i, t, x in zip(ids, tasks, texts, strict=True))
            else:
                lines = zip(ids, tasks, texts, strict=True)
                file.writelines(f'{{"id": "{i}", "task": "{t}", "text": "{x}"}}\n' for i, t, x in lines)
    return path


def watched(arguments: list[str], status: int = 0) -> tuple[float, list[float], float]:
    """Run a command that ends with `status`; return seconds, its memory in MB at every half second, and the highest."""
    started, sizes, peak = time.perf_counter(), [], 0.0
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        time.sleep(0.5)
        told = Path(f"/proc/{process.pid}/status")
        fields = dict(line.split(":", 1) for line in told.read_text().splitlines() if line.startswith("Vm"))
        if "VmRSS" in fields:
            sizes.append(int(fields["VmRSS"].split()[0]) / 1000)
            peak = int(fields["VmHWM"].split()[0]) / 1000
    if process.returncode != status:
        raise SystemExit(f"{arguments[0]} ended with {process.returncode}")
    return time.perf_counter() - started, sizes, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--kind", choices=("parquet", "jsonl", "csv"), default="parquet")
    parser.add_argument("--folder", type=Path, help="where files go; a temporary folder if not given")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name, stub_server() as address:
        folder = Path(name)
        source = write_input(folder, args.rows, args.kind)
        scoremux = str(Path(sys.executable).with_name("scoremux"))
        wall_s, sizes, peak = watched([scoremux, "score", str(source), "--out", str(folder / "out"), "--url", address])
        written = sum(pq.read_metadata(part).num_rows for part in (folder / "out").glob("part-*.parquet"))
        os.sync()
    if written != args.rows:
        raise SystemExit(f"{written:,} rows came out of {args.rows:,}")
    quarter = max(1, len(sizes) // 4)
    figures = {
        "kind": args.kind,
        "rows": args.rows,
        "wall_s": wall_s,
        "rows_per_s": args.rows / wall_s,
        "peak_mb": peak,
        "second_quarter_mb": max(sizes[quarter : 2 * quarter]),
        "last_quarter_mb": max(sizes[-quarter:]),
    }
    print(figures)
    record("batch_stream", f"{COMMAND} --rows {args.rows} --kind {args.kind}", figures)


if __name__ == "__main__":
    main()
