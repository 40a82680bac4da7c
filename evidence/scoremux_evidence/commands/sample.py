"""`scoremux sample`: which responses people label next, drawn with known probabilities, as a queue for the desk."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from typer import Argument, Option

from scoremux_files.errors import InputError
from scoremux_files.rows.row_layout import COLUMN_HELP

if TYPE_CHECKING:
    from scoremux_evidence.sampling import TaskSample

_QUEUES = (".parquet", ".jsonl")


def sample(
    sources: Annotated[list[str], Argument(help="Files (.jsonl, .csv, .tsv, .parquet) and folders.")],
    out: Annotated[Path, Option(help="The queue for the review desk: .parquet or .jsonl.")],
    count: Annotated[int, Option(min=1, help="Responses to choose of each task.")] = 100,
    without: Annotated[
        list[Path] | None,
        Option(
            help="Responses that are labelled or will be: labelled files and queues of the desk, or columns as below."
        ),
    ] = None,
    seed: Annotated[int | None, Option(min=0, help="Seed of the random draw (default: a new one).")] = None,
    column: Annotated[
        list[str] | None,
        Option(
            metavar="KEY=NAME",
            help=f"{COLUMN_HELP}, administration (tells equal ids apart), task, text, student (one response of each "
            "per task) or stratum (such as a school).",
        ),
    ] = None,
) -> None:
    """Choose the responses that people label next, and write them as a queue for `scoremux review add`.

    It is a random sample with known probabilities. Half of it is divided equally among a task's strata, half by their
    size. Near copies count once.

    Example: scoremux sample responses.csv --count 100 --out queue.parquet
    """
    if out.suffix.lower() not in _QUEUES:
        raise InputError(f"{out}: a queue is written to a {' or '.join(_QUEUES)} file")
    from scoremux_evidence.rows.label_columns import label_columns
    from scoremux_evidence.sampling import choose, read_unlabelled, read_without, write_queue

    columns = replace(label_columns(column, group="stratum", data=Path(sources[0])), level="")
    pool = read_unlabelled(sources, out, columns)
    labelled = read_without(without or (), columns)
    seed = secrets.randbits(32) if seed is None else seed
    chosen = choose(pool, labelled, count, seed)
    write_queue(out, chosen)
    console = Console(stderr=True, highlight=False, markup=False)
    count = sum(len(of_task.rows) for of_task in chosen)
    written = f"{count:,} responses written to {out}; scoremux review add {out} brings them to the desk"
    left_out = [f"{len(rows):,} lines {reason}" for reason, rows in pool.rows.left_out.items()]
    _report(console, chosen, seed, [*left_out, written])


def _report(console: Console, chosen: Sequence[TaskSample], seed: int, notes: Sequence[str]) -> None:
    from scoremux_files.terminal import print_table

    titles = ("task", "responses", "left out", "units", "chosen", "probability")
    rows = []
    for of_task in chosen:
        probabilities = of_task.rows.probability.tolist()
        span = f"{min(probabilities):.3f} – {max(probabilities):.3f}" if probabilities else ""
        numbers = (of_task.responses, of_task.drawn.left_out, of_task.drawn.units, len(of_task.rows))
        rows.append([of_task.task, *(f"{number:,}" for number in numbers), span])
    units = (
        "units: near copies, and with --column student=NAME a student's responses, count once. left out: responses in "
        "a unit with a labelled one; figures from the sample are not about them."
    )
    title = f"A random sample, drawn with seed {seed}"
    print_table(console, titles, rows, title=title, numbers=titles[1:], notes=[units, *notes])
