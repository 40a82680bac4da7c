"""Run a set of benchmarks, one after the other, and then the report.

    python -m benchmarks quick    ten minutes on 2 cores
    python -m benchmarks all

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

from benchmarks.rows import ROOT

QUICK = (
    "speed --case profiles --data SAF",
    "speed --case profiles --data SCIENTSBANK",
    "speed --case served imports --data SAF",
    "growth --case growth --axis rank threads --rounds 3",
    "load --data SAF --batch 1 --rounds 1",
)
ALL = (
    *(f"speed --case profiles rank_classes served --data {name}" for name in ("SAF", "SCIENTSBANK")),
    "speed --case imports",
    "peers --data SAF --rows 2048 --rounds 3",
    "load --data SAF --seconds 3",
    "growth --case growth bank",
    "one_text --data SAF",
    *(f"decisions --data {name}" for name in ("SAF", "SCIENTSBANK")),
    "quality --case quality",
    "quality --case paper --models MODELS",
    "training --case training training_memory trained --data SAF",
    "memory --minutes 75",
)
"""Modules and arguments; MODELS stands for a folder that is kept between runs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=("quick", "all"))
    parser.add_argument("--work", type=Path, default=ROOT / "benchmarks" / ".work", help="what is kept between runs")
    arguments = parser.parse_args()
    table, failed = Table("benchmark", "s", "status"), []
    for line in (*(QUICK if arguments.set == "quick" else ALL), "report"):
        print(f"\n== {line}", flush=True)
        words = [str(arguments.work / "models") if word == "MODELS" else word for word in line.split()]
        started = time.perf_counter()
        command = [sys.executable, "-m", f"benchmarks.{words[0]}", *words[1:]]
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
        if status:
            failed.append(line)
        said = f"failed: {status}" if status else "ok"
        table.add_row(line, f"{time.perf_counter() - started:,.0f}", said)
    Console().print(table)
    if failed:
        sys.exit(f"failed: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
