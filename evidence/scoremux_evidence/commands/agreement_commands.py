"""`scoremux evaluate`, `report` and `compare`: scored rows beside known levels, and beside another output."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from typer import Argument, Option

from scoremux_files.errors import InputError
from scoremux_files.rows.row_layout import LABELS_HELP
from scoremux_files.terminal import print_notes

if TYPE_CHECKING:
    from scoremux_evidence.rows.table import Reasons

_KEYS = ("level", "score", "second", "rater")

ScoredOption = Annotated[Path, Argument(help="What `scoremux score` wrote.")]
TruthOption = Annotated[Path, Option(help="File with the columns id and level.")]
ColumnOption = Annotated[
    list[str] | None,
    Option(
        metavar="KEY=NAME",
        help=f"{LABELS_HELP}, task (without one, rows match by id alone), level, score (points, for rows without a "
        "level), second (another human's level or points), student (whose rows belong together), group (of students; "
        "may be given again) or text (for its length).",
    ),
]
TasksOption = Annotated[
    Path | None, Option(help="Store of tasks, REPO/store: rows that an adapter was trained on are left out.")
]
CutOption = Annotated[
    list[float] | None,
    Option(metavar="TOTAL", help="A total from which students pass; repeatable. By default the tenths of totals."),
]
CriteriaOption = Annotated[
    Path | None, Option(help="TOML file of criteria, in place of those that come with scoremux.")
]


def evaluate(
    scored: ScoredOption,
    truth: TruthOption,
    column: ColumnOption = None,
    tasks: TasksOption = None,
    criteria: CriteriaOption = None,
    out: Annotated[Path | None, Option(help="File for all figures: .csv, .json or .parquet.")] = None,
) -> None:
    """Print agreement with 95 % intervals and a verdict, by task, by group and overall.

    Example: scoremux evaluate scored --truth labelled.csv --tasks repo/store
    """
    from scoremux_evidence.rows.label_columns import label_columns
    from scoremux_evidence.rows.matching import match_files
    from scoremux_evidence.show import report_tables
    from scoremux_evidence.show.figure_tables import write_table
    from scoremux_evidence.verdicts.assessment import assess
    from scoremux_evidence.verdicts.verdicts import read_criteria

    judging = read_criteria(criteria)
    columns = label_columns(column, *_KEYS, group="group", data=truth)
    matched = match_files(scored, truth, columns, tasks)
    assessed = assess(matched, judging)
    if out:
        write_table(out, assessed)
    console = Console(highlight=False, markup=False)
    print_notes(console, filter(None, [matched.population]))
    verdicts = report_tables.tasks_table(assessed)
    verdicts.print(console, [f"{row[0]} {row[1].small}" for row in verdicts.rows if row[1].small])
    if assessed.figures["people"].n[-1]:
        notes = []
        if not assessed.figures["record_exact"].n[-1] > assessed.figures["kept_exact"].n[-1]:
            reason = "no second reading of a row sent to people (--column second=NAME)"
            notes.append(f"The score of record is not measured: {reason}.")
        title = "Rows sent to people; agreement of all machine scores, the machine's share, the score of record:"
        report_tables.figures_table(title, "Task", report_tables.lines_of_tasks(assessed), report_tables.ROUTES).print(
            console, notes
        )
    if assessed.items:
        report_tables.items_table(assessed).print(console)
        report_tables.traits_table(assessed).print(console)
    if groups := [*report_tables.lines_of_groups(assessed.groups)]:
        report_tables.figures_table("", "Group", groups, report_tables.GROUPS).print(console)
    print_notes(console, _last_notes(matched.rows.left_out, out))


def report(
    scored: ScoredOption,
    truth: TruthOption,
    out: Annotated[Path, Option(help="HTML file; .json and .parquet files are written beside it.")],
    column: ColumnOption = None,
    tasks: TasksOption = None,
    criteria: CriteriaOption = None,
    cut: CutOption = None,
) -> None:
    """Write a page with a verdict for each task, and everything that it rests on.

    Example: scoremux report scored --truth labelled.csv --tasks repo/store --out report.html
    """
    from scoremux_evidence.rows.label_columns import label_columns
    from scoremux_evidence.show import ReportInputs, write_report

    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{out}: a report is an .html file")
    columns = label_columns(column, *_KEYS, group="group", data=truth)
    write_report(ReportInputs(scored, truth, columns, criteria, tasks, cut or ()), out)
    print_notes(Console(highlight=False, markup=False), _last_notes({}, out))


def compare(
    old: Annotated[Path, Argument(help="An output of `scoremux score`.")],
    new: Annotated[Path, Argument(help="Another one, of the same rows.")],
    truth: Annotated[Path | None, Option(help="File with the columns id and level.")] = None,
    column: ColumnOption = None,
    tasks: TasksOption = None,
    cut: CutOption = None,
    out: Annotated[Path | None, Option(help="JSON file for all figures.")] = None,
) -> None:
    """Print how many levels moved, how far and where to, by task and group; with a truth, what it did to agreement.

    Example: scoremux compare scored-before scored-after --truth labelled.csv
    """
    from scoremux_evidence.rows.label_columns import label_columns
    from scoremux_evidence.show.figure_tables import write_comparison
    from scoremux_evidence.show.report_tables import changed_totals_table, comparison_table
    from scoremux_evidence.verdicts.comparison import ALL
    from scoremux_evidence.verdicts.comparison import compare as compare_outputs

    if (column or cut) and truth is None:
        raise InputError("--column and --cut are about the truth: give --truth as well")
    columns = label_columns(column, *_KEYS, group="group", data=truth)
    comparison = compare_outputs(old, new, truth, columns, tasks, cut or ())
    console = Console(highlight=False, markup=False)
    moves = ", ".join(f"{step:+d}: {rows:,}" for step, rows in comparison.moves.items() if step)
    notes = [f"rows by the levels that they moved: {moves}" if moves else "no level moved"]
    if comparison.changes:
        counted = int(comparison.changes["exact"].n[comparison.names.index(ALL)])
        notes.insert(0, f"Δ: on the {counted:,} rows with a known level. {comparison.population}".rstrip())
    totals = comparison.totals
    if isinstance(totals, str):
        notes += filter(None, [totals])
    comparison_table(comparison).print(console, [*notes, *_last_notes(comparison.left_out)])
    if not isinstance(totals, str):
        changed_totals_table(*totals).print(console)
    if out:
        write_comparison(out, comparison)
        print_notes(console, [f"written to {out}"])


def _last_notes(left_out: Reasons, *paths: Path | None) -> Iterator[str]:
    """Yield which rows are not compared, with a few of their ids, and which files were written."""
    from scoremux_evidence.show.words import left_out_shown

    for shown in left_out_shown(left_out):
        yield f"{shown['count']} rows {shown['reason']}: {shown['examples']}"
    for path in filter(None, paths):
        yield f"written to {path}"
