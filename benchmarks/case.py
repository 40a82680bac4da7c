"""A case: a measurement with declared columns. A theme's module runs its cases from the command line."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.rows import ROOT, Row, record

FOLDERS = {"--against": "CHECKOUT", "--models": "FOLDER", "--adapters": "FOLDER", "--full": "PREDICTIONS"}
"""Options whose values are paths of one machine → what stands for them in a row."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    key: path into the row, with dots; form: how `str.format` shows a value; unit: what a number is divided by first;
    remark: a sentence, which the console shows below the table.
    """

    head: str
    key: str
    form: str = "{}"
    unit: float = 1
    remark: bool = False

    def shown(self, row: Row) -> str:
        """Return the value as text, empty where the row has none."""
        value: Any = row
        for part in self.key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, list):
            value = " ".join(map(str, value))
        if isinstance(value, float | int) and self.unit != 1:
            value /= self.unit
        return "" if value is None else self.form.format(value)


@dataclass(frozen=True)
class Case:
    """A measurement.

    what: one sentence for the page; columns: what tables show; keys: fields of a row that name its setting, of which
    the page shows the newest row each; run: measures, and yields rows.
    """

    name: str
    what: str
    columns: tuple[Column, ...]
    keys: tuple[str, ...]
    run: Callable[[argparse.Namespace, Path], Iterable[Row]]


def data_folder(name: str) -> Path:
    """Return the folder of a corpus: `SAF`, `SCIENTSBANK` (looked for in $SCOREMUX_DATA), or a path."""
    root = Path(os.environ.get("SCOREMUX_DATA", ROOT.parent / "shared" / "data"))
    folder = root / name.lower() if name.isupper() else Path(name)
    if not (folder / "train.jsonl").is_file():
        raise argparse.ArgumentTypeError(f"{folder} has no train.jsonl")
    return folder


def parser(cases: Sequence[Case], description: str | None, rounds: int = 7) -> argparse.ArgumentParser:
    """Return what every theme's command line has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--case", nargs="*", choices=[case.name for case in cases], help="default: all of them")
    made.add_argument("--data", default="SAF", help="SAF, SCIENTSBANK (folders in $SCOREMUX_DATA), or a path")
    made.add_argument("--rows", type=int, default=512, help="responses a round (default: %(default)s)")
    made.add_argument("--rounds", type=int, default=rounds, help="timed rounds (default: %(default)s)")
    made.add_argument("--work", type=Path, help="a folder to keep exported models in (default: a temporary one)")
    return made


def command_of(argv: Sequence[str]) -> str:
    """Return a command line as a reader would type it: without `--work`, and with words for this machine's folders."""
    module = Path(argv[0]).relative_to(ROOT).with_suffix("").as_posix().removesuffix("/__main__").replace("/", ".")
    words = ["python", "-m", module]
    for before, word in pairwise(argv):
        if "--work" not in (before, word):
            words.append(FOLDERS.get(before, word))
    return " ".join(words)


def main(cases: Sequence[Case], arguments: argparse.Namespace) -> None:
    """Run the chosen cases: print each one's table and append its rows to its result file."""
    command = command_of(sys.argv)
    for case in cases:
        if arguments.case and case.name not in arguments.case:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            work = arguments.work or Path(scratch)
            work.mkdir(parents=True, exist_ok=True)
            rows = list(case.run(arguments, work))
        show(case, rows)
        for row in rows:
            record(case.name, {"command": command, **row})


def show(case: Case, rows: Iterable[Row]) -> None:
    """Print a case's table."""
    columns, remarks = [column for column in case.columns if not column.remark], []
    table = Table(*(column.head for column in columns))
    for row in rows:
        table.add_row(*(column.shown(row) for column in columns))
        sentences = (column.shown(row) for column in case.columns if column.remark)
        remarks += [f"{columns[0].shown(row)}: {sentence}" for sentence in sentences if sentence]
    console = Console(highlight=False)
    console.width = max(console.width, 140)  # in a file too, figures must be whole
    console.print(case.what, table, *remarks, sep="\n")
