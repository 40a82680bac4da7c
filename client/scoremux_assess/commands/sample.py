"""`scoremux sample`: which responses people label next, drawn with known probabilities, as a queue for the desk."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from scoremux_client.contract import TASK_PATTERN, Status
from scoremux_client.rows import Response, Scored
from scoremux_files.errors import InputError
from scoremux_files.rows.row_layout import COLUMN_HELP, column_names

if TYPE_CHECKING:
    from scoremux_assess.sampling import SampledRows

_QUEUES = (".parquet", ".jsonl")


@dataclass(frozen=True)
class Unlabelled:
    """A response that may be labelled next."""

    id: str
    task: str
    text: str
    student: str | None
    stratum: str = ""


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
            help=f"{COLUMN_HELP}, task, text, student (one response of each per task) or stratum (such as a school).",
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
    names = column_names(column, id="id", task="task", text="text", student=None, stratum=None)
    *columns, stratum_column = names.values()
    pool = read_unlabelled(sources, out, columns, stratum_column)
    labelled = read_without(without or (), columns)
    seed = secrets.randbits(32) if seed is None else seed
    chosen = choose(pool, labelled, count, seed)
    rows = [row for of_task in chosen for row in of_task.rows]
    _write(out, rows)
    console = Console(stderr=True, highlight=False, markup=False)
    _report(console, chosen, seed)
    told = f"{len(rows):,} responses written to {out}; scoremux review add {out} brings them to the desk"
    console.print(told, soft_wrap=True)


@dataclass(frozen=True)
class QueuedRow:
    """A response that was chosen, and the probability with which it was."""

    row: Unlabelled
    probability: float


@dataclass(frozen=True)
class TaskSample:
    """What was chosen of a task: the rows of the queue, and of how many responses."""

    task: str
    rows: Sequence[QueuedRow]
    responses: int
    drawn: SampledRows


def choose(pool: Sequence[Unlabelled], labelled: Sequence[Unlabelled], count: int, seed: int) -> list[TaskSample]:
    """Draw `count` responses of each task, by task.

    Args:
        pool: What may be chosen.
        labelled: What is labelled or will be; it is not chosen, nor its near copies.
        count: How many of each task.
        seed: What is drawn depends on it.
    """
    of_pool, of_labelled = _by_task(pool), _by_task(labelled)
    return [_choose(task, of_pool[task], of_labelled.get(task, ()), count, seed) for task in sorted(of_pool)]


def _by_task(rows: Sequence[Unlabelled]) -> dict[str, list[Unlabelled]]:
    by_task: dict[str, list[Unlabelled]] = {}
    for row in rows:
        by_task.setdefault(row.task, []).append(row)
    return by_task


def _choose(task: str, pool: Sequence[Unlabelled], labelled: Sequence[Unlabelled], count: int, seed: int) -> TaskSample:
    import numpy as np

    from scoremux_assess.labels.similar_texts import related
    from scoremux_assess.sampling import draw, thin

    rows = [pool[place] for place in thin(len(pool), seed, task)]
    # Labelled responses come last: what is drawn of the others has their places.
    ids, both = {row.id for row in labelled}, [*rows, *(row for row in labelled if row.text)]
    is_labelled = np.array([place >= len(rows) or row.id in ids for place, row in enumerate(both)], bool)
    units = related([row.text for row in both], [row.student for row in both])
    drawn = draw(units, [row.stratum for row in both], count, seed, task, is_labelled)
    chosen = [
        QueuedRow(rows[place], len(rows) / len(pool) * probability)
        for place, probability in zip(drawn.rows.tolist(), drawn.probability.tolist(), strict=True)
    ]
    return TaskSample(task, chosen, len(pool), drawn)


def read_unlabelled(
    sources: Sequence[str], out: Path, columns: Sequence[Any], stratum_column: str | None = None
) -> list[Unlabelled]:
    """Return the responses of files.

    Raises InputError for a row without a named column, with a task that is no id, or with an id given twice.
    """
    from scoremux_cli.batch.sources import expand
    from scoremux_files.rows.readers import read_rows, repeated_ids_remedy, same_text, student_of, text_cell

    id_column, task_column, text_column, student_column = columns
    rows: dict[tuple[str, str], Unlabelled] = {}
    files = expand(sources, out)
    for source in files:
        path = Path(source.path)
        for number, row in enumerate(read_rows(path, id_column, text_column), start=1):
            task = text_cell(path, number, row, task_column)
            text = text_cell(path, number, row, text_column)
            if not TASK_PATTERN.fullmatch(task):  # and may be a text, which must not be shown
                raise InputError(f"{path}, row {number}: {task_column} is no task's id; give --column task=NAME")
            for column in (student_column, stratum_column):
                if column and column not in row:
                    raise InputError(f"{path}, row {number}: no {column}")
            name = row.get(id_column)
            name = f"{path.name}:{number}" if name in (None, "") else str(name)
            if (task, name) in rows and same_text(rows[task, name].text) != same_text(text):
                remedy = repeated_ids_remedy(len(files))
                raise InputError(f"{path}, row {number}: id {name[:80]!r} of {task} is given twice{remedy}")
            student = student_of(row.get(student_column)) if student_column else None
            rows[task, name] = Unlabelled(name, task, text, student, str(row[stratum_column]) if stratum_column else "")
    if not rows:
        raise InputError(f"there are no rows in {', '.join(sources[:3])}")
    return list(rows.values())


def read_without(files: Sequence[Path], columns: Sequence[Any]) -> list[Unlabelled]:
    """Return what is not to be chosen; columns have the names of the responses' ones, or those that scoremux writes.

    Raises:
        InputError: A row has no id or no task.
    """
    from scoremux_files.rows.readers import read_rows, student_of

    id_column, task_column, text_column, student_column = columns
    labelled = []
    for path in files:
        for number, row in enumerate(read_rows(path, id_column), start=1):
            named = ((id_column, "id"), (task_column, "task"), (text_column, "text"))
            name, task, text = (row.get(column, row.get(ours)) for column, ours in named)
            if name is None or task is None:
                raise InputError(f"{path}, row {number}: no {id_column} or no {task_column}")
            student = student_of(row.get(student_column if student_column in row else "student"))
            labelled.append(Unlabelled(str(name), str(task), str(text or ""), student))
    return labelled


def _write(out: Path, rows: Sequence[QueuedRow]) -> None:
    import pyarrow as pa

    from scoremux_assess.labels.weights import SAMPLE
    from scoremux_cli.batch.parts import outcome_columns, text_column
    from scoremux_files.rows.writers import SCHEMA, write_rows

    fields = [field for field in SCHEMA if field.name not in ("read_behind", "student")]
    more = [("text", pa.string()), ("student", pa.string()), ("chosen_by", pa.string()), ("probability", pa.float64())]
    schema = pa.schema([*fields, *more])
    unscored = [Scored.without_score(Response(r.row.task, ""), Status.UNKNOWN_TASK) for r in rows]
    columns = {
        **outcome_columns([r.row.id for r in rows], [r.row.task for r in rows], unscored),
        "text": text_column([r.row.text for r in rows]),
        "student": text_column([r.row.student for r in rows]),
        "chosen_by": [SAMPLE] * len(rows),
        "probability": [r.probability for r in rows],
    }
    write_rows(out, [pa.table([columns[name] for name in schema.names], schema=schema)], schema)


def _report(console: Console, chosen: Sequence[TaskSample], seed: int) -> None:
    from scoremux_files.terminal import print_table

    titles = ("task", "responses", "left out", "units", "chosen", "probability")
    rows = []
    for of_task in chosen:
        probabilities = [row.probability for row in of_task.rows]
        span = f"{min(probabilities):.3f} – {max(probabilities):.3f}" if probabilities else ""
        numbers = (of_task.responses, of_task.drawn.left_out, of_task.drawn.units, len(of_task.rows))
        rows.append([of_task.task, *(f"{number:,}" for number in numbers), span])
    print_table(console, titles, rows, title=f"A random sample, drawn with seed {seed}", numbers=titles[1:])
    console.print(
        "units: near copies, and with --column student=NAME a student's responses, count once. left out: near "
        "copies of labelled responses; figures from the sample are not about them.",
        soft_wrap=True,
    )
