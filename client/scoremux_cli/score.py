"""`scoremux score`: score files of responses through a server."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from scoremux_client.contract import Status


def score(
    files: Annotated[list[Path], typer.Argument(help="Files of responses: .jsonl, .csv or .parquet.")],
    out: Annotated[Path, typer.Option("--out", help="File of scored rows: .jsonl, .csv or .parquet.")],
    url: Annotated[str, typer.Option("--url", help="HOST:PORT of the server's gRPC endpoint.")],
) -> None:
    """Score every row of the files and write the outcomes, in order."""
    from scoremux_cli.records import read_responses, write_scored
    from scoremux_client.client import ScoringClient

    console = Console(stderr=True)
    started = time.perf_counter()
    statuses: Counter[Status] = Counter()
    rows = _count(files)
    bar = (TextColumn("scoring"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn())
    with (
        ScoringClient(url) as client,
        Progress(*bar, TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), console=console) as progress,
    ):
        shown = progress.add_task("scoring", total=rows, rate="")
        for scored in write_scored(out, client.score_iter(read_responses(files))):
            statuses[scored.status] += 1
            rate = statuses.total() / (time.perf_counter() - started)
            progress.update(shown, advance=1, rate=f"{rate:,.0f} rows/s")
    _summarise(console, statuses, time.perf_counter() - started, out)


def _count(files: list[Path]) -> int:
    """Count the rows, and refuse a file that cannot be read before anything is scored."""
    from scoremux_cli.records import read_responses

    return sum(1 for _ in read_responses(files))


def _summarise(console: Console, statuses: Counter[Status], wall_s: float, out: Path) -> None:
    table = Table("status", "rows")
    table.columns[1].justify = "right"
    for status, rows in sorted(statuses.items()):
        table.add_row(str(status), f"{rows:,}")
    console.print(table)
    rows = statuses.total()
    console.print(f"{rows:,} rows in {wall_s:.1f} s ({rows / wall_s:,.0f} rows/s), written to {out}", soft_wrap=True)
