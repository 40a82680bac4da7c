"""Benchmarks by name.

    python -m benchmarks                      the names, and what they measure
    python -m benchmarks NAME… [options]      measure, print, and append to benchmarks/results; --help shows the options
    python -m benchmarks report               write the newest rows into the pages
    python -m benchmarks quick                a set of cases, ten minutes on 2 cores, and then the report
    python -m benchmarks all                  another set, several hours

Further commands: `full_finetuning`, `load_input`. In a set, a case that fails does not stop the others;
exit status 1 names those that did.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from itertools import takewhile

from rich.console import Console

from benchmarks.case import run_cases
from benchmarks.registry import CASES
from benchmarks.rows import ROOT
from scoremux_files.terminal import print_table

COMMANDS = {
    "report": "benchmarks.report:main",
    "full_finetuning": "benchmarks.training:full_finetuning",
    "load_input": "benchmarks.load:write_load",
}
"""What measures by itself, or not at all: a function of the words that follow its name."""
SETS = {
    "quick": (
        *(f"profiles --data {name}" for name in ("SAF", "SCIENTSBANK")),
        "served",
        "growth --axis rows --rounds 3",
        "load --rounds 1",
        "report",
    ),
    "all": (
        *(f"profiles rank_classes served --data {name}" for name in ("SAF", "SCIENTSBANK")),
        "lone",
        "peers --rows 2048 --rounds 3",
        "cost --price 0.04",
        "load --seconds 3",
        "growth",
        *(f"decisions --data {name}" for name in ("SAF", "SCIENTSBANK")),
        "training training_memory",
        "trained --full examples/saf/full_finetuning_predictions.jsonl",
        "report",
    ),
}


def run_set(lines: tuple[str, ...]) -> None:
    """Run command after command, each in a process of its own."""
    shown, failed = [], []
    for line in lines:
        print(f"\n== {line}", flush=True)
        started = time.perf_counter()
        status = subprocess.run([sys.executable, "-m", "benchmarks", *line.split()], cwd=ROOT, check=False).returncode
        failed += [line] if status else []
        shown.append((line, f"{time.perf_counter() - started:,.0f}", f"failed: {status}" if status else "ok"))
    print_table(Console(highlight=False), ("benchmark", "s", "status"), shown, fold=("benchmark",))
    if failed:
        sys.exit(f"failed: {'; '.join(failed)}")


def main(words: list[str]) -> None:
    """Run what the words name. Exits with a sentence where there is no such name."""
    if words[:1] and words[0] in COMMANDS:
        module, _, function = COMMANDS[words[0]].partition(":")
        getattr(importlib.import_module(module), function)(words[1:])
        return
    names = list(takewhile(lambda word: not word.startswith("-"), words))
    cases = {case.name: case for case in CASES}
    if not names:
        print(__doc__, *(f"    {name:16} {case.what}" for name, case in cases.items()), sep="\n")
    elif names[0] in SETS:
        run_set(SETS[names[0]])
    elif unknown := [name for name in names if name not in cases]:
        sys.exit(f"there is no benchmark {unknown[0]}; there are {', '.join((*cases, *COMMANDS, *SETS))}")
    else:
        run_cases([cases[name] for name in names], words[len(names) :])


if __name__ == "__main__":
    main(sys.argv[1:])
