"""Jobs of `scoremux score`: their sources, their output byte by byte, and `kill -9` in the middle of them."""

import csv
import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import killed_commands
from serving import SCOREMUX, run_here

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


def write_worrying(folder: Path, rows: int) -> Path:
    """Write a file about which `peers.worrying` worries, and beside it the key of `people`."""
    kinds = {0: "alarm", 1: "unsure", 2: "odd"}
    made = [{"id": f"r{n}", "task": "t-1", "text": f"answer {n} {kinds.get(n % 50, '')}"} for n in range(rows)]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    (folder / "key").write_text("0123456789abcdef0123\n")
    return folder / "in.jsonl"


def people(source: Path) -> list[str]:
    """Return the options of read-behind and alerts."""
    return ["--read-behind", "0.2", "--key-file", str(source.with_name("key")), "--alert", "danger:0.5"]


def alerts(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


def arguments(sources: list[Path], out: Path, url: str, part_rows: int = PART_ROWS) -> list[str]:
    names = [str(source) for source in sources]
    return [SCOREMUX, "score", *names, "--out", str(out), "--url", url, "--part-rows", str(part_rows)]


def content(out: Path) -> dict[str, bytes]:
    """Return the bytes of every file that a job leaves, but for its journal."""
    paths = [path for path in out.rglob("*") if path.is_file() and path.name != "_journal.jsonl"]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def finish(command: list[str]) -> None:
    ended = run_here(*command[1:])
    if ended.returncode not in (0, 3, 4):
        raise AssertionError(f"exit status {ended.returncode}: {ended.stderr}")


def kill_and_finish(command: list[str], folder: Path, kills: int, operations: int, draw: random.Random) -> int:
    """Start a job, kill it, start it again, …, and let it finish; return how many kills met it alive.

    Each kill is at one of the job's first `operations` on files below `folder`, every other one up to 5 ms later.
    """
    for met in range(kills):
        moment = [str(draw.randint(1, operations)), str(met % 2 * draw.uniform(0, 0.005))]
        killed = [sys.executable, killed_commands.__file__, str(folder), *moment, *command[1:]]
        if subprocess.run(killed, capture_output=True, check=False).returncode != -signal.SIGKILL:
            finish(command)
            return met
    finish(command)
    return kills
