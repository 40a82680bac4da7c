"""`scoremux evaluate`: how well scored rows agree with known levels."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from scoremux_client.errors import InputError

if TYPE_CHECKING:
    from scoremux_cli.agreement import Agreement

Pairs = dict[str, list[tuple[int, int]]]


def evaluate(
    scored: Annotated[Path, typer.Argument(help="What `scoremux score` wrote.")],
    truth: Annotated[Path, typer.Option("--truth", help="File with the columns id and level.")],
    subgroup: Annotated[
        list[str] | None, typer.Option("--subgroup", help="A column of the truth to break all rows down by.")
    ] = None,
    second: Annotated[
        str | None, typer.Option("--second", help="The truth's column of a second human level, where there is one.")
    ] = None,
    rsm: Annotated[Path | None, typer.Option("--rsm", help="CSV to write for RSMTool's rsmeval.")] = None,
) -> None:
    """Print n, exact and adjacent agreement, QWK and SMD, per task, per subgroup and overall.

    Example: scoremux evaluate scored --truth labelled.csv
    """
    from scoremux_cli.agreement import agreement
    from scoremux_cli.judged import judged, subgroups, two_humans, write_rsm

    pairs, unscored = pair(scored, truth)
    columns = [*(subgroup or ()), *([second] if second else ())]
    rows = judged(scored, truth, columns) if columns or rsm else []
    table = Table("task", "n", "exact", "adjacent", "QWK", "SMD")
    for column in table.columns[1:]:
        column.justify = "right"
    by_task = {task: agreement(*zip(*rows, strict=True)) for task, rows in sorted(pairs.items())}
    for task, figures in by_task.items():
        table.add_row(task, *_cells(figures))
    table.add_section()
    everything = agreement(*zip(*(row for rows in pairs.values() for row in rows), strict=True))
    table.add_row("all rows", *_cells(everything))
    for name, group in subgroups(rows, subgroup or ()):
        table.add_row(name, *_cells(group))
    if second and (humans := two_humans(rows, truth, second)):
        table.add_row("human and human", *_cells(humans))
    kappas = [f.qwk for f in by_task.values() if not math.isnan(f.qwk)]
    if kappas:
        table.add_row(f"mean of {len(kappas)} tasks", "", "", "", f"{sum(kappas) / len(kappas):.3f}", "")
    console = Console()
    console.print(table)
    if unscored:
        console.print(f"{unscored:,} rows have no score and are left out")
    if rsm:
        write_rsm(rsm, rows, truth, subgroup or (), second)
        console.print(f"written to {rsm}", soft_wrap=True)


def pair(scored: Path, truth: Path) -> tuple[Pairs, int]:
    """Return (human, machine) levels by task, and how many rows of the output had no score.

    Raises InputError for an id that the truth does not have, or has twice, and if there is nothing to compare.
    """
    from scoremux_assess.formats.records import read_rows, whole_number
    from scoremux_assess.formats.writers import without_apostrophe

    known: dict[str, int] = {}
    for number, row in enumerate(read_rows(truth), start=1):
        if "id" not in row or "level" not in row:
            raise InputError(f"{truth}, row {number}: the columns id and level are needed")
        if str(row["id"]) in known:
            raise InputError(f"{truth}, row {number}: id {row['id']!r} is there twice")
        known[str(row["id"])] = whole_number(truth, number, row["level"])
    pairs: Pairs = defaultdict(list)
    seen: set[str] = set()
    unscored = 0
    for number, row in enumerate(read_rows(scored), start=1):
        if not {"id", "task", "status", "level"} <= row.keys():
            raise InputError(
                f"{scored}, row {number}: not what `scoremux score` writes; id, task, status, level needed"
            )
        row_id = without_apostrophe(str(row["id"])) if scored.suffix.lower() == ".csv" else str(row["id"])
        if row_id in seen:
            raise InputError(f"{scored}, row {number}: id {row_id!r} is there twice")
        seen.add(row_id)
        if row["status"] != "OK":
            unscored += 1
        elif row_id not in known:
            raise InputError(f"{scored}, row {number}: id {row_id!r} is not in {truth}")
        else:
            pairs[str(row["task"])].append((known[row_id], whole_number(scored, number, row["level"])))
    if not pairs:
        raise InputError(f"{scored} has no scored rows")
    return pairs, unscored


def _cells(figures: Agreement) -> list[str]:
    ratios = (figures.exact, figures.adjacent, figures.qwk, figures.smd)
    return [f"{figures.n:,}", *("–" if math.isnan(r) else f"{r:.3f}" for r in ratios)]
