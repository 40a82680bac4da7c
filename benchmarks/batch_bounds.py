"""`scoremux score` on files that could cost it its memory: what it held at most, and whether all is accounted for.

python -m benchmarks.batch_bounds             all cases
python -m benchmarks.batch_bounds line-jsonl  one of them
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.batch_stream import watched
from benchmarks.provenance import record
from benchmarks.stub_server import stub_server

COMMAND = "python -m benchmarks.batch_bounds"
_LINE_BYTES = 2 << 30
_WIDE_ROWS, _WIDE_BYTES = 2000, 1 << 20
_BAD_ROWS = 5_000_000
_BLOCK = b"x" * (1 << 20)

Expected = tuple[int, list[tuple[int, str]] | int]
"""Rows that come out, and what is rejected: line and reason, or only how many."""


def wide(path: Path) -> Expected:
    """Write rows of 1 MiB each, all different."""
    texts = (f"{n} ".ljust(_WIDE_BYTES, "x") for n in range(_WIDE_ROWS))
    if path.suffix == ".parquet":
        schema = pa.schema([("task", pa.string()), ("text", pa.string())])
        # pyarrow looks at a page's size every 1,024 rows unless told; and a page is decoded as a whole.
        with pq.ParquetWriter(path, schema, write_batch_size=8) as writer:
            for _ in range(_WIDE_ROWS // 500):  # a row group of 500 MB each
                block = list(islice(texts, 500))
                writer.write_table(pa.table([["t"] * len(block), block], schema=schema))
    else:
        with path.open("wb") as file:
            file.write(_header(path))
            file.writelines(_row(path, text.encode()) for text in texts)
    return _WIDE_ROWS, 0


def line(path: Path) -> Expected:
    """Write one line of 2 GB between two good rows."""
    head, tail = _row(path, b"first"), _row(path, b"last")
    with path.open("wb") as file:
        file.write(_header(path) + head)
        for _ in range(_LINE_BYTES // len(_BLOCK)):
            file.write(_BLOCK)
        file.write(b"\n" + tail)
    return 2, [(2 + bool(_header(path)), "longer than 4,194,304 bytes")]


def rejected(path: Path) -> Expected:
    """Write 5 million rows that cannot be read between two good ones."""
    bad = b'{"task": "t"}\n' if path.suffix == ".jsonl" else b"t\n"
    with path.open("wb") as file:
        file.write(_header(path) + _row(path, b"first"))
        for _ in range(_BAD_ROWS // 1000):
            file.write(bad * 1000)
        file.write(_row(path, b"last"))
    return 2, _BAD_ROWS


CASES: dict[str, tuple[Callable[[Path], Expected], str]] = {
    "wide-parquet": (wide, "parquet"),
    "wide-jsonl": (wide, "jsonl"),
    "wide-csv": (wide, "csv"),
    "line-jsonl": (line, "jsonl"),
    "line-csv": (line, "csv"),
    "rejected-jsonl": (rejected, "jsonl"),
    "rejected-csv": (rejected, "csv"),
}


def _header(path: Path) -> bytes:
    return b"task,text\n" if path.suffix == ".csv" else b""


def _row(path: Path, text: bytes) -> bytes:
    return b"t," + text + b"\n" if path.suffix == ".csv" else b'{"task": "t", "text": "' + text + b'"}\n'


def _rejections(out: Path) -> Iterator[tuple[int, str]]:
    for part in sorted((out / "rejected").glob("part-*.jsonl")):
        with part.open(encoding="utf-8") as file:
            for row in map(json.loads, file):
                yield row["line"], row["reason"]


def run(name: str, folder: Path, url: str) -> None:
    """Run a case and record it. Ends the program where a row is missing."""
    make, kind = CASES[name]
    source, out = folder / f"in.{kind}", folder / "out"
    rows, bad = make(source)
    command = [str(Path(sys.executable).with_name("scoremux")), "score", str(source), "--out", str(out), "--url", url]
    wall_s, _, peak_mb = watched(command, status=3 if bad else 0)
    written = sum(pq.read_metadata(part).num_rows for part in out.glob("part-*.parquet"))
    found: list[tuple[int, str]] | int = (
        sum(1 for _ in _rejections(out)) if isinstance(bad, int) else list(_rejections(out))
    )
    if (written, found) != (rows, bad):
        raise SystemExit(f"{name}: {written} rows came out and {found} were rejected, not {rows} and {bad}")
    figures = {"case": name, "file_mb": source.stat().st_size / 1e6, "wall_s": wall_s, "peak_mb": peak_mb, "rows": rows}
    print(figures, flush=True)
    record("batch_bounds", f"{COMMAND} {name}", {**figures, "rejected": bad if isinstance(bad, int) else len(bad)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help=", ".join(CASES))
    parser.add_argument("--folder", type=Path, help="where files go, 3 GB at most; a temporary folder if not given")
    args = parser.parse_args()
    with stub_server() as url:
        for name in args.cases or CASES:
            with tempfile.TemporaryDirectory(dir=args.folder) as folder:
                run(name, Path(folder), url)


if __name__ == "__main__":
    main()
