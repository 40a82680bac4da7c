"""`kill -9` of `scoremux score` at random moments: its output must be the uninterrupted run's, byte for byte.

python -m benchmarks.batch_kill --kills 200
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.provenance import record
from benchmarks.stub_server import stub_server

COMMAND = "python -m benchmarks.batch_kill"
SCOREMUX = str(Path(sys.executable).with_name("scoremux"))
PART_ROWS = 500


def write_sources(folder: Path, rows: int) -> list[Path]:
    """Write a file of each kind with so many rows, every hundredth bad where the kind has bad rows."""
    folder.mkdir()
    made = [{"id": f"r{n}", "task": f"t-{n % 7}", "text": f"answer {n}, {'x' * (n % 50)}"} for n in range(rows)]
    paths = [folder / f"in.{kind}" for kind in ("jsonl", "csv", "parquet")]
    paths[0].write_text("".join((json.dumps(row) if n % 100 else "{") + "\n" for n, row in enumerate(made)))
    with paths[1].open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "task", "text"])
        writer.writerows(list(row.values())[: 3 if n % 100 else 2] for n, row in enumerate(made))
    pq.write_table(pa.Table.from_pylist(made), paths[2], row_group_size=777)
    return paths


def arguments(sources: list[Path], out: Path, url: str) -> list[str]:
    """Return the command of one job."""
    names = [str(source) for source in sources]
    return [SCOREMUX, "score", *names, "--out", str(out), "--url", url, "--part-rows", str(PART_ROWS)]


def content(out: Path) -> dict[str, bytes]:
    """Return the bytes of every file that a job leaves, but for its journal."""
    paths = [path for path in out.rglob("*") if path.is_file() and path.name != "journal.jsonl"]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def finish(command: list[str]) -> float:
    """Run a job to its end; return how long it took."""
    started = time.perf_counter()
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode not in (0, 3):
        raise SystemExit(f"exit status {ended.returncode}: {ended.stderr}")
    return time.perf_counter() - started


def kill_and_finish(command: list[str], kills: int, within_s: float, draw: random.Random) -> int:
    """Start a job, kill it, start it again, …, and let it finish; return how many kills met it alive."""
    met = 0
    while met < kills:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(draw.uniform(0, within_s))
            return met
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            met += 1
    finish(command)
    return met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--rows", type=int, default=20_000, help="of each of three files")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    met = jobs = different = 0
    with tempfile.TemporaryDirectory() as name, stub_server() as url:
        folder = Path(name)
        sources = write_sources(folder / "in", args.rows)
        wall_s = finish(arguments(sources, folder / "whole", url))
        expected = content(folder / "whole")
        while met < args.kills:
            out = folder / f"job-{jobs}"
            most = min(args.kills - met, draw.randint(1, 12))
            met += kill_and_finish(arguments(sources, out, url), most, wall_s, draw)
            jobs += 1
            different += content(out) != expected
            print(f"{met} kills, {jobs} jobs, {different} different", flush=True)
    figures = {"kills": met, "jobs": jobs, "different": different, "rows": 3 * args.rows, "seed": args.seed}
    record("batch_kill", f"{COMMAND} --kills {args.kills} --rows {args.rows} --seed {args.seed}", figures)


if __name__ == "__main__":
    main()
