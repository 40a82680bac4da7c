"""A case: a measurement with declared columns. `python -m benchmarks NAME` runs it."""

from __future__ import annotations

import argparse
import os
import shlex
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console

from benchmarks.rows import ROOT, Row, record
from scoremux_files.terminal import print_table

Run = Callable[[argparse.Namespace, Path], Iterable[Row]]
Options = Mapping[str, Mapping[str, Any]]
FOLDERS = {
    "--against": "CHECKOUT",
    "--adapters": "FOLDER",
    "--backbone": "FOLDER",
    "--full": "PREDICTIONS",
    "--predictions": "FILE",
    "--work": "FOLDER",
}
"""Options whose values are paths of one machine → what stands for them in a row."""


RATE = "rows/s = rows_per_s:,.0f; spread = spread:.2f"
QWK = "mean QWK of the tasks = mean_qwk:.3f; pooled QWK = pooled_qwk:.3f; exact = exact:.3f"
"""Columns that several cases have."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        head: Its title.
        key: Path into the row, with dots.
        form: How `format` shows a value.
        unit: What a number is divided by first.
    """

    head: str
    key: str
    form: str = ""
    unit: float = 1

    @classmethod
    def parse(cls, text: str) -> Column:
        """Read `HEAD = KEY/UNIT:FORM`, of which a key that is its own title is enough."""
        head, _, rest = text.partition(" = ")
        key, _, form = (rest or head).partition(":")
        key, _, unit = key.partition("/")
        return cls(head.strip(), key.strip(), form, float(unit or 1))

    def shown(self, row: Row) -> str:
        """Return the value as text, empty where the row has none."""
        value: Any = row
        for part in self.key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, list):
            value = " ".join(map(str, value))
        if isinstance(value, float | int) and self.unit != 1:
            value /= self.unit
        return "" if value is None else format(value, self.form)


@dataclass(frozen=True)
class Case:
    """A measurement.

    Attributes:
        name: What the command line calls it, and the name of its file of results.
        what: One sentence for the page.
        columns: What tables show.
        keys: Fields of a row that name its setting, of which the page shows the newest row each.
        run: Measures, and yields rows.
        options: Options of its own: arguments of `add_argument` by flag.
        defaults: Of the options that all cases have, where they differ.
    """

    name: str
    what: str
    columns: tuple[Column, ...]
    keys: tuple[str, ...]
    run: Run
    options: Options
    defaults: Mapping[str, Any]


def case(
    columns: str,
    keys: str = "",
    *,
    name: str = "",
    options: Options = MappingProxyType({}),
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> Callable[[Run], Case]:
    """Make a case of a function, whose docstring is the sentence for the page.

    Args:
        columns: As `Column.parse` reads them, with semicolons between.
        keys: With spaces between.
        name: The function's own name by default.
        options: See `Case`.
        defaults: See `Case`.
    """

    def make(run: Run) -> Case:
        sentence = (run.__doc__ or "").partition("\n")[0].removesuffix(".")
        parsed = tuple(map(Column.parse, columns.split(";")))
        return Case(name or run.__name__, sentence, parsed, tuple(keys.split()), run, options, defaults)

    return make


PROFILES: Options = {
    "--profile": {"nargs": "*", "default": ["cpu"], "help": "NAME or FILE, maybe with settings: cpu,precision=int8"}
}
ONE_PROFILE: Options = {"--profile": {"default": "cpu", "help": "what serves"}}


def data_folder(name: str) -> Path:
    """Return the folder of a corpus: `SAF`, `SCIENTSBANK`, `BEETLE` (looked for in $SCOREMUX_DATA), or a path."""
    root = Path(os.environ.get("SCOREMUX_DATA", ROOT.parent / "shared" / "data"))
    folder = root / name.lower() if name.isupper() else Path(name)
    if not (folder / "train.jsonl").is_file():
        raise argparse.ArgumentTypeError(f"{folder} has no train.jsonl")
    return folder


def parse(cases: Sequence[Case], words: Sequence[str]) -> argparse.Namespace:
    """Read the options of cases that run one after the other."""
    parser = argparse.ArgumentParser(f"python -m benchmarks {' '.join(case.name for case in cases)}")
    parser.add_argument("--data", default="SAF", help="SAF, SCIENTSBANK, BEETLE (folders in $SCOREMUX_DATA), or a path")
    parser.add_argument("--rows", type=int, default=512, help="responses a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds (default: %(default)s)")
    parser.add_argument("--work", type=Path, help="a folder to keep exported models in (default: a temporary one)")
    for case in cases:
        parser.set_defaults(**case.defaults)
    for flag, settings in {flag: s for case in cases for flag, s in case.options.items()}.items():
        parser.add_argument(flag, **settings)
    return parser.parse_args(words)


def command_of(names: Sequence[str], words: Sequence[str]) -> str:
    """Return a command as a reader would type it: with words for this machine's folders."""
    shown = [FOLDERS.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    return shlex.join(["python", "-m", "benchmarks", *names, *shown])


def run_cases(cases: Sequence[Case], words: Sequence[str]) -> None:
    """Run cases: print each one's table and append its rows to its result file."""
    arguments, command = parse(cases, words), command_of([case.name for case in cases], words)
    for case in cases:
        with tempfile.TemporaryDirectory() as scratch:
            work = arguments.work or Path(scratch)
            work.mkdir(parents=True, exist_ok=True)
            rows = list(case.run(arguments, work))
        show(case, rows)
        for row in rows:
            record(case.name, {"command": command, **row})


def show(case: Case, rows: Iterable[Row]) -> None:
    """Print a case's table."""
    cells = [[column.shown(row) for column in case.columns] for row in rows]
    print_table(Console(highlight=False), [column.head for column in case.columns], cells, title=case.what)
