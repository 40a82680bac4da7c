"""`scoremux evaluate`: how well scored rows agree with known levels, at a glance."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scoremux_assess.agreement.assessment import Assessment, Found
    from scoremux_assess.agreement.assessment import Groups as Groups_
    from scoremux_assess.agreement.joining import Left
    from scoremux_assess.agreement.verdicts import Judged

Scored = Annotated[Path, typer.Argument(help="What `scoremux score` wrote.")]
Truth = Annotated[Path, typer.Option("--truth", help="File with the columns id and level.")]
Second = Annotated[str | None, typer.Option("--second", help="The truth's column of a second human's level.")]
Groups = Annotated[
    list[str] | None, typer.Option("--groups", help="The truth's column of a group of students; may be repeated.")
]
Student = Annotated[
    str | None, typer.Option("--student", help="The truth's column of the student, whose rows belong together.")
]
Criteria = Annotated[
    Path | None, typer.Option("--criteria", help="TOML file of criteria, in place of those that come with scoremux.")
]


def evaluate(
    scored: Scored,
    truth: Truth,
    second: Second = None,
    groups: Groups = None,
    student: Student = None,
    criteria: Criteria = None,
    out: Annotated[Path | None, typer.Option("--out", help="File for all figures: .csv, .json or .parquet.")] = None,
    rsm: Annotated[Path | None, typer.Option("--rsm", help="CSV to write for RSMTool's rsmeval.")] = None,
) -> None:
    """Print agreement with 95 % intervals and a verdict, by task, by group and overall.

    Example: scoremux evaluate scored --truth labelled.csv
    """
    from scoremux_assess.agreement.assessment import assess
    from scoremux_assess.agreement.figure_tables import write_rsm, write_table
    from scoremux_assess.agreement.joining import read_joined
    from scoremux_assess.agreement.verdicts import read_criteria

    judging = read_criteria(criteria)
    joined = read_joined(scored, truth, second, groups or (), student)
    assessed = assess(joined, judging)
    console = Console(highlight=False)
    console.print(_table(assessed, wide=console.width >= 96))
    if assessed.groups is not None:
        console.print(_groups_table(assessed.groups))
    if assessed.found["human_qwk"].n[-1]:
        console.print(f"QWK of two humans, all rows: {interval(assessed.found, 'human_qwk', -1)}")
    print_left(console, joined.left)
    if out:
        write_table(out, assessed)
    if rsm:
        write_rsm(rsm, joined)
    for path in (out, rsm):
        if path:
            console.print(f"written to {path}", soft_wrap=True)


def print_left(console: Console, left: Iterable[Left]) -> None:
    """Say which rows are not compared, with a few of their ids."""
    for one in left:
        more = " …" if one.count > len(one.examples) else ""
        ids = ", ".join(one.examples)
        console.print(f"{one.count:,} rows {one.reason}: {ids}{more}", markup=False, soft_wrap=True)


def interval(found: Found, statistic: str, cell: int, signed: bool = False) -> str:
    """Return a figure with its interval, such as `.71 [.62, .79]`."""
    value, low, high = found[statistic].at(cell)
    if math.isnan(value):
        return "–"
    # A figure whose interval is a tenth of the scale wide does not have two digits.
    digits = 1 if not high - low < 0.5 else 2
    middle, ends = _short(value, digits, signed), [_short(x, digits, False) for x in (low, high)]
    return middle if math.isnan(low) else f"{middle} [{', '.join(ends)}]"


def _short(value: float, digits: int, signed: bool) -> str:
    rounded = round(value, digits) + 0.0  # never −0
    return re.sub(r"^([+-]?)0\.", r"\1.", f"{rounded:{'+' if signed else ''}.{digits}f}")


def _table(assessed: Assessment, wide: bool) -> Table:
    shown = ("exact", "qwk", "smd")
    table = figures_table("task", "n", "exact", "QWK", "SMD")
    table.add_column("verdict", no_wrap=True)
    if wide:
        table.add_column("rows needed", justify="right", no_wrap=True)
    for cell, name in enumerate((*assessed.tasks, "all rows")):
        whole = cell == len(assessed.tasks)
        words, style = ([], None) if whole else _verdict(assessed.overall, cell)
        if whole:
            table.add_section()
        figures = [interval(assessed.found, statistic, cell) for statistic in shown]
        table.add_row(name, f"{int(assessed.found['exact'].n[cell]):,}", *figures, *words[: 1 + wide], style=style)
    return table


def _groups_table(groups: Groups_) -> Table:
    table = figures_table("group", "n", "exact", "QWK", "DSM")
    for cell in (groups.task < 0).nonzero()[0]:
        figures = [interval(groups.found, statistic, cell) for statistic in ("exact", "qwk", "dsm")]
        name = f"{groups.column[cell]}: {groups.value[cell]}"
        table.add_row(name, f"{int(groups.found['exact'].n[cell]):,}", *figures)
    return table


def figures_table(*names: str) -> Table:
    """Return an empty table whose first column is text and whose other columns are figures."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for place, name in enumerate(names):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    return table


def _verdict(judged: Judged, cell: int) -> tuple[list[str], str | None]:
    """Return the words of a verdict, the rows that would decide, and the style of its row."""
    from scoremux_assess.agreement.verdicts import Verdict, rows_in_words

    verdict = Verdict(int(judged.verdict[cell]))
    style = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.NOT_ENOUGH_ROWS: "bright_black"}.get(verdict)
    return [str(verdict), rows_in_words(judged.needed[cell])], style
