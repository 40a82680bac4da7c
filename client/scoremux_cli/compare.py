"""`scoremux compare`: what changed between two outputs of the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from scoremux_cli.evaluate import Groups, figures_table, interval, print_left

if TYPE_CHECKING:
    from rich.table import Table

    from scoremux_assess.agreement.comparison import Comparison


def compare(
    old: Annotated[Path, typer.Argument(help="An output of `scoremux score`.")],
    new: Annotated[Path, typer.Argument(help="Another one, of the same rows.")],
    truth: Annotated[Path | None, typer.Option("--truth", help="File with the columns id and level.")] = None,
    groups: Groups = None,
    out: Annotated[Path | None, typer.Option("--out", help="JSON file for all figures.")] = None,
) -> None:
    """Print how many levels moved, how far and where to, by task and group; with a truth, what it did to agreement.

    Example: scoremux compare scored-before scored-after --truth labelled.csv
    """
    from scoremux_assess.agreement.comparison import compare as run
    from scoremux_assess.agreement.figure_tables import write_comparison
    from scoremux_client.errors import InputError

    if groups and truth is None:
        raise InputError("--groups names columns of the truth: give --truth as well")
    found, console = run(old, new, truth, groups or ()), Console(highlight=False)
    console.print(_table(found))
    moves = ", ".join(f"{step:+d}: {rows:,}" for step, rows in found.moves.items() if step)
    console.print(f"rows by the levels that they moved: {moves}" if moves else "no level moved", soft_wrap=True)
    print_left(console, found.left)
    if out:
        write_comparison(out, found)
        console.print(f"written to {out}", soft_wrap=True)


def _table(found: Comparison) -> Table:
    table = figures_table("", "rows", "moved", "up", "down", "≥2")
    for name in ("Δ exact", "Δ QWK") if found.changes else ():
        table.add_column(name, justify="right", no_wrap=True)
    for cell, name in enumerate(found.names):
        parts = [f"{found.shares[share].value[cell]:.1%}" for share in ("up", "down", "far")]
        changes = [interval(found.changes, one, cell, signed=True) for one in ("exact", "qwk") if found.changes]
        table.add_row(
            name, f"{int(found.shares['moved'].n[cell]):,}", interval(found.shares, "moved", cell), *parts, *changes
        )
    return table
