"""`scoremux evaluate`, `report` and `compare`: scored rows beside known levels, and beside another output."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from scoremux_files.errors import InputError

if TYPE_CHECKING:
    from scoremux_assess.agreement.assessment import Assessment, Figures, Groups
    from scoremux_assess.agreement.comparison import Comparison
    from scoremux_assess.agreement.joining import LeftOut

_WIDE_COLUMNS = 96
"""From this width on, the table of tasks has a column of the rows that are needed."""

ScoredOption = Annotated[Path, typer.Argument(help="What `scoremux score` wrote.")]
TruthOption = Annotated[Path, typer.Option("--truth", help="File with the columns id and level.")]
SecondOption = Annotated[str | None, typer.Option("--second", help="The truth's column of a second human's level.")]
GroupsOption = Annotated[
    list[str] | None, typer.Option("--groups", help="The truth's column of a group of students; may be repeated.")
]
StudentOption = Annotated[
    str | None, typer.Option("--student", help="The truth's column of the student, whose rows belong together.")
]
CriteriaOption = Annotated[
    Path | None, typer.Option("--criteria", help="TOML file of criteria, in place of those that come with scoremux.")
]


def evaluate(
    scored: ScoredOption,
    truth: TruthOption,
    second: SecondOption = None,
    groups: GroupsOption = None,
    student: StudentOption = None,
    criteria: CriteriaOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="File for all figures: .csv, .json or .parquet.")] = None,
    rsm: Annotated[Path | None, typer.Option("--rsm", help="CSV to write for RSMTool's rsmeval.")] = None,
) -> None:
    """Print agreement with 95 % intervals and a verdict, by task, by group and overall.

    Example: scoremux evaluate scored --truth labelled.csv
    """
    from scoremux_assess.agreement.assessment import assess
    from scoremux_assess.agreement.joining import read_joined
    from scoremux_assess.agreement.verdicts import read_criteria
    from scoremux_assess.report.figure_tables import write_rsm, write_table

    judging = read_criteria(criteria)
    joined = read_joined(scored, truth, second, groups or (), student)
    assessed = assess(joined, judging)
    console = Console(highlight=False)
    if joined.population:
        console.print(joined.population, soft_wrap=True)
    console.print(_task_table(assessed, wide=console.width >= _WIDE_COLUMNS))
    if assessed.groups is not None:
        console.print(_group_table(assessed.groups))
    if assessed.figures["human_qwk"].n[-1]:
        console.print(f"QWK of two humans, all rows: {_interval(assessed.figures, 'human_qwk', -1)}")
    _print_left_out(console, joined.left_out)
    if out:
        write_table(out, assessed)
    if rsm:
        write_rsm(rsm, joined)
    _print_files(console, out, rsm)


def report(
    scored: ScoredOption,
    truth: TruthOption,
    out: Annotated[Path, typer.Option("--out", help="HTML file; .json and .parquet files are written beside it.")],
    second: SecondOption = None,
    groups: GroupsOption = None,
    student: StudentOption = None,
    criteria: CriteriaOption = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", help="TOML file of `scoremux calibrate`: says what more rows would do.")
    ] = None,
    title: Annotated[str, typer.Option(help="The page's heading.")] = "Agreement of machine and human",
) -> None:
    """Write a page with a verdict for each task, and everything that it rests on.

    Example: scoremux report scored --truth labelled.csv --out report.html
    """
    from scoremux_assess.report import ReportInputs, write_report

    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{out}: a report is an .html file")
    write_report(ReportInputs(scored, truth, second, tuple(groups or ()), student, criteria, policy), out, title)
    _print_files(Console(highlight=False), out)


def compare(
    old: Annotated[Path, typer.Argument(help="An output of `scoremux score`.")],
    new: Annotated[Path, typer.Argument(help="Another one, of the same rows.")],
    truth: Annotated[Path | None, typer.Option("--truth", help="File with the columns id and level.")] = None,
    groups: GroupsOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="JSON file for all figures.")] = None,
) -> None:
    """Print how many levels moved, how far and where to, by task and group; with a truth, what it did to agreement.

    Example: scoremux compare scored-before scored-after --truth labelled.csv
    """
    from scoremux_assess.agreement.comparison import compare as compare_outputs
    from scoremux_assess.report.figure_tables import write_comparison

    if groups and truth is None:
        raise InputError("--groups names columns of the truth: give --truth as well")
    comparison, console = compare_outputs(old, new, truth, groups or ()), Console(highlight=False)
    console.print(_comparison_table(comparison))
    moves = ", ".join(f"{step:+d}: {rows:,}" for step, rows in comparison.moves.items() if step)
    console.print(f"rows by the levels that they moved: {moves}" if moves else "no level moved", soft_wrap=True)
    _print_left_out(console, comparison.left_out)
    if out:
        write_comparison(out, comparison)
    _print_files(console, out)


def _task_table(assessed: Assessment, wide: bool) -> Table:
    from scoremux_assess.agreement.verdicts import Verdict, rows_in_words

    styles = {Verdict.PASS: "green", Verdict.FAIL: "red"}
    table = _figures_table(("task", "n", "exact", "QWK", "SMD"))
    table.add_column("verdict", no_wrap=True)
    if wide:
        table.add_column("rows needed", justify="right", no_wrap=True)
    for cell, task in enumerate(assessed.tasks):
        verdict = Verdict(int(assessed.overall.verdict[cell]))
        words = [str(verdict), rows_in_words(assessed.overall.needed[cell])]
        figures = _figures(assessed.figures, cell, ("exact", "qwk", "smd"))
        table.add_row(task, *figures, *words[: 1 + wide], style=styles.get(verdict, "bright_black"))
    table.add_section()
    table.add_row("all rows", *_figures(assessed.figures, len(assessed.tasks), ("exact", "qwk", "smd")))
    table.add_row("task mean", *_figures(assessed.means, 0, ("exact", "qwk", "smd")))
    return table


def _group_table(groups: Groups) -> Table:
    table = _figures_table(("group", "n", "exact", "QWK", "DSM"))
    for cell in (groups.task < 0).nonzero()[0]:
        name = f"{groups.column[cell]}: {groups.value[cell]}"
        table.add_row(name, *_figures(groups.figures, cell, ("exact", "qwk", "dsm")))
    return table


def _comparison_table(comparison: Comparison) -> Table:
    shares, changes = comparison.shares, comparison.changes
    table = _figures_table(("", "rows", "moved", "up", "down", "≥2", *(("Δ exact", "Δ QWK") if changes else ())))
    for cell, name in enumerate(comparison.names):
        parts = [f"{shares[share].value[cell]:.1%}" for share in ("up", "down", "far")]
        differences = [_interval(changes, figure, cell, signed=True) for figure in ("exact", "qwk") if changes]
        rows = f"{int(shares['moved'].n[cell]):,}"
        table.add_row(name, rows, _interval(shares, "moved", cell), *parts, *differences)
    return table


def _figures_table(names: Sequence[str]) -> Table:
    """Return an empty table whose first column is text and whose other columns are figures."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for place, name in enumerate(names):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    return table


def _figures(figures: Figures, cell: int, statistics: Sequence[str]) -> list[str]:
    """Return the number of rows of a cell and its statistics."""
    rows = f"{int(figures['exact'].n[cell]):,}"
    return [rows, *(_interval(figures, statistic, cell) for statistic in statistics)]


def _interval(figures: Figures, statistic: str, cell: int, signed: bool = False) -> str:
    """Return a figure with its interval, such as `.71 [.62, .79]`."""
    value, low, high = figures[statistic].at(cell)
    if math.isnan(value):
        return "–"
    # A figure whose interval is half of the scale wide does not have two digits.
    digits = 1 if not high - low < 0.5 else 2
    middle, ends = _short(value, digits, signed), [_short(end, digits, False) for end in (low, high)]
    return middle if math.isnan(low) else f"{middle} [{', '.join(ends)}]"


def _short(value: float, digits: int, signed: bool) -> str:
    rounded = round(value, digits) + 0.0  # never −0
    return re.sub(r"^([+-]?)0\.", r"\1.", f"{rounded:{'+' if signed else ''}.{digits}f}")


def _print_left_out(console: Console, left_out: Iterable[LeftOut]) -> None:
    """Print which rows are not compared, with a few of their ids."""
    for rows in left_out:
        more = " …" if rows.count > len(rows.examples) else ""
        ids = ", ".join(rows.examples)
        console.print(f"{rows.count:,} rows {rows.reason}: {ids}{more}", markup=False, soft_wrap=True)


def _print_files(console: Console, *paths: Path | None) -> None:
    for path in filter(None, paths):
        console.print(f"written to {path}", soft_wrap=True)
