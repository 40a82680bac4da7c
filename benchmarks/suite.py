"""Run a set of benchmarks, one after the other: `quick` (ten minutes on 2 cores) or `all`; then plots and READMEs.

    python -m benchmarks.suite quick --data ../shared/data/saf

One that fails does not stop the others; exit status 1 names those that did.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import gpu
from benchmarks.provenance import ROOT

QUICK = (
    "precisions SAF --rounds 3",
    "lora_price SAF --rounds 3",
    "limit SAF --rounds 3 --precision bfloat16",
    "growth SAF --rounds 3 --axis rank length threads",
    "perf SAF --passes 1 --batch 1",
    "client_latency SAF --rows 100",
    "client_import",
)
ALL = (
    "saf_parity SAF",
    "saf_quality SAF",
    "bit_stability SAF --mixes 300",
    "bit_stability SAF --mixes 5000 --most-characters 60",
    "precisions SAF",
    "lora_price SAF",
    "limit SAF",
    *(f"growth SAF --axis {axis}" for axis in ("tasks", "rank", "rows", "length", "threads")),
    *(f"perf SAF --batch {batch} --seconds 3" for batch in (1, 64)),
    "paper SAF --models MODELS",
    "peers SAF",
    "residency SAF",
    *(f"bank_budget SAF --tasks {tasks}" for tasks in (1000, 10000)),
    "client_throughput SAF",
    "client_latency SAF",
    "client_import",
    "batch_stream",
    "batch_kill",
    "batch_bounds",
    "rsm SAF",
    "live_tasks SAF",
    "healing --repository REPOSITORY",
    "two_tritons --repository REPOSITORY",
    "fuzz --repository REPOSITORY",
    "soak --minutes 120",
    "gpu SAF",
)
"""Module and arguments; SAF stands for `--data` and the folder, REPOSITORY and MODELS for folders made on the way."""
LAST = ("plots", "peer_tables", "readme")


def command(line: str, data: Path, work: Path) -> list[str]:
    """Return the command of one line of a set."""
    module, *arguments = line.split()
    folders = {"REPOSITORY": str(work / "repository"), "MODELS": str(work / "models")}
    given = [folders.get(argument, argument) for argument in arguments if argument != "SAF"]
    saf = ["--data", str(data)] if "SAF" in arguments else []
    return [sys.executable, "-m", f"benchmarks.{module}", *saf, *given]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=("quick", "all"))
    parser.add_argument("--data", type=Path, required=True, help="the SAF folder")
    parser.add_argument("--work", type=Path, default=ROOT / "benchmarks" / ".work", help="what is kept between runs")
    args = parser.parse_args()
    lines = QUICK if args.set == "quick" else ALL
    if any("REPOSITORY" in line for line in lines):
        from benchmarks.saf import prepare

        prepare(args.work / "repository")
    table, failed = Table("benchmark", "s", "status"), []
    for line in (*lines, *LAST):
        print(f"\n== {line}", flush=True)
        started = time.perf_counter()
        status = subprocess.run(command(line, args.data, args.work), cwd=ROOT, check=False).returncode
        no_card = line.startswith("gpu") and status == gpu.NO_CARD
        if status and not no_card:
            failed.append(line)
        said = "no GPU" if no_card else "ok" if not status else f"failed: {status}"
        table.add_row(line, f"{time.perf_counter() - started:,.0f}", said)
    Console().print(table)
    if failed:
        sys.exit(f"failed: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
