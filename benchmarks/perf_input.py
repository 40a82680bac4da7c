"""Write what perf_analyzer sends to a scoremux server, and say how to run it.

    python -m benchmarks.perf_input responses.jsonl --out load.json --popularity zipf --duplicates 0.1

The rows of `responses.jsonl` (columns `task` and `text`) should be of the server's own tasks; without a file it is the
sample of examples/saf. perf_analyzer fills its batches with rows in the order of the file, so they are mixed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.provenance import ROOT
from benchmarks.traffic import OWN, POPULARITIES, TaskText, Traffic, repeated
from scoremux_client import contract

SAMPLE = ROOT / "examples" / "saf" / "responses.jsonl"


def write(rows: Sequence[TaskText], out: Path) -> None:
    """Write rows, (task, text), as perf_analyzer's `--input-data`: one step each, batch dimension left out."""
    steps = [{contract.TEXT.name: [text], contract.TASK.name: [task]} for task, text in rows]
    out.write_text(json.dumps({"data": steps}, ensure_ascii=False), encoding="utf-8")


def read_pool(source: Path) -> list[TaskText]:
    """Return (task, text) of each line of a JSONL file. Raises ValueError naming the line that lacks them."""
    pool = []
    for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), 1):
        row = json.loads(line)
        if not isinstance(row.get("task"), str) or not isinstance(row.get("text"), str):
            raise ValueError(f"{source}, line {number}: `task` and `text` must be there, and strings")
        pool.append((row["task"], row["text"]))
    return pool


def add_traffic(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe traffic."""
    default = Traffic()
    parser.add_argument("--rows", type=int, default=default.rows, help="different steps in the file")
    parser.add_argument("--popularity", choices=POPULARITIES, default=default.popularity)
    parser.add_argument("--words", default=OWN, help=f"words of a response: {OWN}, N, N-M or lognormal:MEDIAN:SIGMA")
    parser.add_argument("--duplicates", type=float, default=default.duplicates, help="share of repeated rows")
    parser.add_argument("--seed", type=int, default=default.seed)


def traffic_of(args: argparse.Namespace) -> Traffic:
    """Return what the options describe."""
    return Traffic(args.rows, args.popularity, args.words, args.duplicates, args.seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="?", default=SAMPLE, help="JSONL with `task` and `text`")
    parser.add_argument("--out", type=Path, required=True)
    add_traffic(parser)
    args = parser.parse_args()
    try:
        rows = traffic_of(args).draw(read_pool(args.source))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    write(rows, args.out)
    print(f"{len(rows):,} rows of {len({task for task, _ in rows})} tasks, {repeated(rows):.1%} repeated: {args.out}\n")
    common = f"perf_analyzer -m scorer -i grpc -u localhost:8001 --async --input-data {args.out} -b 1"
    count = "--warmup-request-count 100 --request-count 2000"
    print(f"{common} --concurrency-range 16 --max-threads 16 {count} -f closed.csv --verbose-csv")
    print(f"{common} --request-rate-range 200 --request-distribution poisson {count} -f open.csv --verbose-csv")
    print("python -m benchmarks.perf_report closed.csv open.csv")


if __name__ == "__main__":
    main()
