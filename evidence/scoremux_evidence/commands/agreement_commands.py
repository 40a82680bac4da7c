"""`scoremux evaluate`, `report` and `compare`: scored rows beside known levels, and beside another output."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from typer import Argument, Option

from scoremux_files.errors import InputError
from scoremux_files.rows.row_layout import LABELS_HELP
from scoremux_files.terminal import print_notes, print_table

if TYPE_CHECKING:
    from scoremux_evidence.figures.estimates import Figures
    from scoremux_evidence.rows.table import Reasons
    from scoremux_evidence.verdicts.assessment import Assessment
    from scoremux_evidence.verdicts.comparison import Comparison
    from scoremux_evidence.verdicts.groups import Groups

_KEYS = ("level", "score", "second", "rater")
_NAMES = ("n", "exact", "QWK")

ScoredOption = Annotated[Path, Argument(help="What `scoremux score` wrote.")]
TruthOption = Annotated[Path, Option("--truth", help="File with the columns id and level.")]
ColumnOption = Annotated[
    list[str] | None,
    Option(
        "--column",
        metavar="KEY=NAME",
        help=f"{LABELS_HELP}, task (without one, rows match by id alone), level, score (points, for rows without a "
        "level), second (another human's level or points), student (whose rows belong together), group (of students; "
        "may be given again) or text (for its length).",
    ),
]
TasksOption = Annotated[
    Path | None, Option("--tasks", help="Store of tasks, REPO/store: rows that an adapter was trained on are left out.")
]
CriteriaOption = Annotated[
    Path | None, Option("--criteria", help="TOML file of criteria, in place of those that come with scoremux.")
]


def evaluate(
    scored: ScoredOption,
    truth: TruthOption,
    column: ColumnOption = None,
    tasks: TasksOption = None,
    criteria: CriteriaOption = None,
    out: Annotated[Path | None, Option("--out", help="File for all figures: .csv, .json or .parquet.")] = None,
    rsm: Annotated[Path | None, Option("--rsm", help="CSV to write for RSMTool's rsmeval.")] = None,
) -> None:
    """Print agreement with 95 % intervals and a verdict, by task, by group and overall.

    Example: scoremux evaluate scored --truth labelled.csv --tasks repo/store
    """
    from scoremux_evidence.rows.label_columns import label_columns
    from scoremux_evidence.rows.matching import match_files
    from scoremux_evidence.show.figure_tables import write_rsm, write_table
    from scoremux_evidence.verdicts.assessment import assess
    from scoremux_evidence.verdicts.verdicts import read_criteria

    judging = read_criteria(criteria)
    columns = label_columns(column, *_KEYS, group="group", data=truth)
    matched = match_files(scored, truth, columns, tasks)
    assessed = assess(matched, judging)
    if out:
        write_table(out, assessed)
    if rsm:
        write_rsm(rsm, matched)
    console = Console(highlight=False, markup=False)
    print_notes(console, filter(None, [matched.population]))
    _print_tasks(console, assessed)
    if assessed.figures["people"].n[-1]:
        _print_routes(console, assessed)
    if assessed.groups.value:
        _print_groups(console, assessed.groups)
    if assessed.figures["human_qwk"].n[-1]:
        print_notes(console, [f"QWK of two humans, mean of tasks: {_interval(assessed.means, 'human_qwk', 0)}"])
    print_notes(console, _last_notes(matched.rows.left_out, out, rsm))


def report(
    scored: ScoredOption,
    truth: TruthOption,
    out: Annotated[Path, Option("--out", help="HTML file; .json and .parquet files are written beside it.")],
    column: ColumnOption = None,
    tasks: TasksOption = None,
    criteria: CriteriaOption = None,
) -> None:
    """Write a page with a verdict for each task, and everything that it rests on.

    Example: scoremux report scored --truth labelled.csv --tasks repo/store --out report.html
    """
    from scoremux_evidence.rows.label_columns import label_columns
    from scoremux_evidence.show import ReportInputs, write_report

    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{out}: a report is an .html file")
    columns = label_columns(column, *_KEYS, group="group", data=truth)
    write_report(ReportInputs(scored, truth, columns, criteria, tasks), out)
    print_notes(Console(highlight=False, markup=False), _last_notes({}, out))


def compare(
    old: Annotated[Path, Argument(help="An output of `scoremux score`.")],
    new: Annotated[Path, Argument(help="Another one, of the same rows.")],
    truth: Annotated[Path | None, Option("--truth", help="File with the columns id and level.")] = None,
    column: ColumnOption = None,
    tasks: TasksOption = None,
    out: Annotated[Path | None, Option("--out", help="JSON file for all figures.")] = None,
) -> None:
    """Print how many levels moved, how far and where to, by task and group; with a truth, what it did to agreement.

    Example: scoremux compare scored-before scored-after --truth labelled.csv
    """
    from scoremux_evidence.rows.label_columns import label_columns
    from scoremux_evidence.show.figure_tables import write_comparison
    from scoremux_evidence.verdicts.comparison import compare as compare_outputs

    if column and truth is None:
        raise InputError("--column names columns of the truth: give --truth as well")
    comparison = compare_outputs(old, new, truth, label_columns(column, *_KEYS, group="group", data=truth), tasks)
    console = Console(highlight=False, markup=False)
    _print_comparison(console, comparison)
    if out:
        write_comparison(out, comparison)
        print_notes(console, [f"written to {out}"])


def _print_tasks(console: Console, assessed: Assessment) -> None:
    from scoremux_evidence.show.task_view import criteria_with
    from scoremux_evidence.verdicts.verdicts import Verdict, rows_in_words

    styles = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.NOT_ENOUGH_ROWS: "bright_black"}
    judged = assessed.overall
    verdicts = [Verdict(int(verdict)) for verdict in judged.verdict]
    statistics = ("exact", "qwk", "smd")
    rows = []
    notes = []
    for cell, (task, verdict) in enumerate(zip(assessed.tasks, verdicts, strict=True)):
        needed = rows_in_words(judged.needed[cell], assessed.figures["exact"].n[cell])
        rows.append([task, *_figures(assessed.figures, cell, statistics), str(verdict), needed])
        if verdict == Verdict.FAIL:
            notes.append(f"{task} fails: {', '.join(criteria_with(verdict, assessed, cell))}")
    if len(rows) > 1:  # their scales differ: QWK is not pooled
        n, exact, _, smd = _figures(assessed.figures, len(rows), statistics)
        rows.append(["all rows", n, exact, "", smd, "", ""])
        rows.append([*_mean(assessed.means, 0, statistics), "", ""])
    columns = ("task", *_NAMES, "SMD", "verdict", "rows needed")
    leave_out = ("rows needed", "SMD", "exact", "n")
    _print_figures(console, columns, rows, leave_out, notes, styles=[styles.get(v) for v in verdicts])


def _print_routes(console: Console, assessed: Assessment) -> None:
    """Print all machine scores, the machine's share and the score of record apart."""
    statistics = ("people", "exact", "kept_exact", "record_exact")
    figures = assessed.figures
    rows = [
        [name, *(_interval(figures, statistic, cell) for statistic in statistics)]
        for cell, name in enumerate((*assessed.tasks, "all rows"))
    ]
    if len(assessed.tasks) > 1:
        mean, unit, *means = _mean(assessed.means, 0, statistics)
        rows.append([f"{mean} {unit}", *means])
    notes = []
    if not figures["record_exact"].n[-1] > figures["kept_exact"].n[-1]:
        reason = "no second reading of a row sent to people (--column second=NAME)"
        notes.append(f"The score of record is not measured: {reason}.")
    columns = ("task", "to people", "all machine scores", "machine's share", "score of record")
    agreement = "exact agreement with a person's level (of the score of record: another person's)"
    title = f"Share of rows sent to people, and {agreement}:"
    _print_figures(console, columns, rows, ("all machine scores",), notes, title=title)


def _print_groups(console: Console, groups: Groups) -> None:
    from scoremux_evidence.show.words import LEAST_SHOWN

    statistics = ("exact", "gap_exact", "qwk", "gap_qwk", "dsm", "people")
    rows = []
    for place, cell in enumerate(groups.of_all()):
        n, *of_group = _figures(groups.figures, cell, statistics)
        if groups.students[cell] < LEAST_SHOWN:
            of_group = ["–"] * len(statistics)
        rows.append([f"{groups.column[cell]}: {groups.value[cell]}", n, *of_group])
        mean, *figures = _mean(groups.means, place, statistics)
        rows.append([f"  {mean}", *figures])
    columns = ["group", "n", "exact", "exact gap", "QWK", "QWK gap", "DSM", "to people"]
    if not groups.figures["people"].n.any():
        columns = columns[:-1]
        rows = [row[:-1] for row in rows]
    _print_figures(console, columns, rows, ("to people", "exact", "exact gap", "QWK gap"))


def _print_comparison(console: Console, comparison: Comparison) -> None:
    from scoremux_evidence.verdicts.comparison import ALL, MEAN

    shares = comparison.shares
    changes = comparison.changes
    rows = []
    for cell, name in enumerate(comparison.names):
        parts = [f"{shares[share].value[cell]:.1%}" for share in ("up", "down", "far")]
        differences = [_interval(changes, figure, cell, signed=True) for figure in ("exact", "qwk") if changes]
        counted = f"{int(shares['moved'].n[cell]):,}{' tasks' if name == MEAN else ''}"
        rows.append([name, counted, _interval(shares, "moved", cell), *parts, *differences])
    notes = []
    if changes:
        rated = int(changes["exact"].n[comparison.names.index(ALL)])
        notes.append(f"Δ: on the {rated:,} rows with a known level. {comparison.population}".rstrip())
    moves = ", ".join(f"{step:+d}: {rows:,}" for step, rows in comparison.moves.items() if step)
    notes.append(f"rows by the levels that they moved: {moves}" if moves else "no level moved")
    notes += _last_notes(comparison.left_out)
    columns = ("", "rows", "moved", "up", "down", "≥2", *(("Δ exact", "Δ QWK") if changes else ()))
    _print_figures(console, columns, rows, ("down", "up", "≥2", "Δ exact", "rows"), notes)


def _print_figures(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    leave_out: Sequence[str],
    notes: Sequence[str] = (),
    *,
    title: str = "",
    styles: Sequence[str | None] = (),
) -> None:
    """Print a table whose columns hold figures, except the first and the verdict, with sentences below it."""
    print_table(
        console,
        columns,
        rows,
        title=title,
        numbers=set(columns[1:]) - {"verdict"},
        leave_out=leave_out,
        fold=columns[:1],
        styles=styles,
        box=False,
        notes=notes,
    )


def _figures(figures: Figures, cell: int, statistics: Sequence[str]) -> list[str]:
    """Return the number of rows of a cell and its statistics."""
    rows = f"{int(figures['exact'].n[cell]):,}"
    return [rows, *(_interval(figures, statistic, cell) for statistic in statistics)]


def _mean(means: Figures, cell: int, statistics: Sequence[str]) -> list[str]:
    """Return the name of a mean over tasks, its unit and its statistics."""
    tasks, *figures = _figures(means, cell, statistics)
    return [f"mean of {tasks}", "tasks", *figures]


def _interval(figures: Figures, statistic: str, cell: int, signed: bool = False) -> str:
    """Return a figure with its interval, such as `.71 [.62, .79]`."""
    value, low, high = figures[statistic].at(cell)
    if math.isnan(value):
        return "–"
    # A figure whose interval is half of the scale wide does not have two digits.
    digits = 1 if not high - low < 0.5 else 2
    middle = _short(value, digits, signed)
    ends = [_short(end, digits, False) for end in (low, high)]
    shown = middle if math.isnan(low) else f"{middle} [{', '.join(ends)}]"
    return shown + figures[statistic].of_fewer(cell)


def _short(value: float, digits: int, signed: bool) -> str:
    from scoremux_evidence.figures.estimates import rounded

    return re.sub(r"^([+-]?)0\.", r"\1.", rounded(value, digits, "+" if signed else ""))


def _last_notes(left_out: Reasons, *paths: Path | None) -> Iterator[str]:
    """Yield which rows are not compared, with a few of their ids, and which files were written."""
    from scoremux_evidence.show.words import left_out_shown

    for shown in left_out_shown(left_out):
        yield f"{shown['count']} rows {shown['reason']}: {shown['examples']}"
    for path in filter(None, paths):
        yield f"written to {path}"
