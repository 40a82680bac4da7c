"""`scoremux sample`: which responses people label next, drawn with known probabilities, as a queue for the desk."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from scoremux_client.contract import Status
from scoremux_client.rows import Response, Scored
from scoremux_files.errors import InputError
from scoremux_files.rows.row_layout import COLUMN_HELP

if TYPE_CHECKING:
    from scoremux_assess.labels.label_table import LabelTable
    from scoremux_assess.labels.labelled_row import LabelColumns, Rows
    from scoremux_assess.sampling import SampledRows

_QUEUES = (".parquet", ".jsonl")


def sample(
    sources: Annotated[list[str], typer.Argument(help="Files (.jsonl, .csv, .tsv, .parquet), folders, globs.")],
    out: Annotated[Path, typer.Option("--out", help="The queue for the review desk: .parquet or .jsonl.")],
    count: Annotated[int, typer.Option(min=1, help="Responses to choose of each task.")] = 100,
    without: Annotated[
        list[Path] | None,
        typer.Option(
            help="Responses that are labelled or will be: labelled files and queues of the desk, or columns as below."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the random draw (default: a new one).")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
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
    from scoremux_assess.labels.labelled_row import label_columns

    columns = replace(
        label_columns(column, group="stratum", data=Path(sources[0])),
        level="",
    )
    pool = read_unlabelled(sources, out, columns)
    labelled = read_without(without or (), columns)
    seed = secrets.randbits(32) if seed is None else seed
    chosen = choose(pool, labelled, count, seed)
    rows = [row for of_task in chosen for row in of_task.rows]
    _write(out, rows)
    console = Console(stderr=True, highlight=False, markup=False)
    written = f"{len(rows):,} responses written to {out}; scoremux review add {out} brings them to the desk"
    _report(console, chosen, seed, written)


@dataclass(frozen=True)
class TaskSample:
    """The sample of a task: the rows of the queue, and of how many responses."""

    task: str
    rows: Rows
    responses: int
    drawn: SampledRows


def choose(
    pool: LabelTable,
    labelled: LabelTable,
    count: int,
    seed: int,
) -> list[TaskSample]:
    """Draw `count` responses of each task, by task. Labelled responses and their near copies are not chosen."""
    from scoremux_assess.labels.label_table import common_key

    key = common_key(pool, labelled)
    labelled_keys = {key(row) for row in labelled.rows}
    of_labelled = labelled.by_task()
    return [
        _choose(
            rows,
            [key(row) in labelled_keys for row in rows],
            of_labelled.get(task, ()),
            count,
            seed,
        )
        for task, rows in sorted(pool.by_task().items())
    ]


def _choose(pool: Rows, in_labels: Sequence[bool], labelled: Rows, count: int, seed: int) -> TaskSample:
    """Draw responses of one task. in_labels: which of the pool are labelled."""
    import numpy as np

    from scoremux_assess.labels.similar_texts import related
    from scoremux_assess.labels.weights import SAMPLE
    from scoremux_assess.sampling import draw, thin

    task = pool[0].task
    places = thin(len(pool), seed, task)
    # Labelled responses come last: what is drawn of the others has their places.
    rows = [
        *(pool[place] for place in places),
        *(row for row in labelled if row.text),
    ]
    is_labelled = np.array(
        [*(in_labels[place] for place in places), *[True] * (len(rows) - len(places))],
        bool,
    )
    units = related([row.response for row in rows], [row.student for row in rows])
    drawn = draw(
        units,
        ["".join(row.groups.values()) for row in rows],
        count,
        seed,
        task,
        is_labelled,
    )
    chosen = [
        replace(rows[place], chosen_by=SAMPLE, probability=len(places) / len(pool) * probability)
        for place, probability in zip(drawn.rows.tolist(), drawn.probability.tolist(), strict=True)
    ]
    return TaskSample(task, chosen, len(pool), drawn)


def read_unlabelled(sources: Sequence[str], out: Path, columns: LabelColumns) -> LabelTable:
    """Return the responses of files. Raises InputError, also where there is none."""
    from scoremux_assess.labels.label_table import read_labels
    from scoremux_batch.sources import expand

    table = read_labels(
        [Path(source.path) for source in expand(sources, out)],
        columns,
        ("task", "text"),
    )
    table.require(columns)
    if not table.rows:
        raise InputError(f"there are no rows in {', '.join(sources[:3])}")
    return table


def read_without(files: Sequence[Path], columns: LabelColumns) -> LabelTable:
    """Return rows that must not be chosen. Columns have the names of the responses' ones, or those of scoremux."""
    from scoremux_assess.labels.label_table import read_labels

    columns = replace(
        columns,
        student=columns.student or "student",
        groups=(),
        own_names=True,
    )
    return read_labels(files, columns, ("id", "task"))


def _write(out: Path, rows: Rows) -> None:
    import pyarrow as pa

    from scoremux_batch.parts import outcome_columns, text_column
    from scoremux_files.rows.writers import SCHEMA, write_rows

    fields = [field for field in SCHEMA if field.name not in ("read_behind", "student")]
    more = [
        ("text", pa.string()),
        ("student", pa.string()),
        ("chosen_by", pa.string()),
        ("probability", pa.float64()),
    ]
    if any(row.administration for row in rows):
        more.append(("administration", pa.string()))
    schema = pa.schema([*fields, *more])
    unscored = [Scored.without_score(Response(r.task, ""), Status.UNKNOWN_TASK) for r in rows]
    columns = {
        **outcome_columns(
            [r.id for r in rows],
            [r.task for r in rows],
            unscored,
        ),
        "text": text_column([r.text for r in rows]),
        "student": text_column([r.student for r in rows]),
        "chosen_by": [r.chosen_by for r in rows],
        "probability": [r.probability for r in rows],
        "administration": text_column([r.administration for r in rows]),
    }
    write_rows(
        out,
        [pa.table([columns[name] for name in schema.names], schema=schema)],
        schema,
    )


def _report(
    console: Console,
    chosen: Sequence[TaskSample],
    seed: int,
    written: str,
) -> None:
    from scoremux_files.terminal import print_table

    titles = ("task", "responses", "left out", "units", "chosen", "probability")
    rows = []
    for of_task in chosen:
        probabilities = [row.probability for row in of_task.rows]
        span = f"{min(probabilities):.3f} – {max(probabilities):.3f}" if probabilities else ""
        numbers = (
            of_task.responses,
            of_task.drawn.left_out,
            of_task.drawn.units,
            len(of_task.rows),
        )
        rows.append([of_task.task, *(f"{number:,}" for number in numbers), span])
    units = (
        "units: near copies, and with --column student=NAME a student's responses, count once. left out: responses in "
        "a unit with a labelled one; figures from the sample are not about them."
    )
    title = f"A random sample, drawn with seed {seed}"
    print_table(
        console,
        titles,
        rows,
        title=title,
        numbers=titles[1:],
        notes=[units, written],
    )
