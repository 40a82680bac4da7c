"""`scoremux sample`: which responses people label next, drawn with known probabilities, as a queue for the desk."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from scoremux_client.contract import NOBODY_CAN, TASK_PATTERN, Status
from scoremux_client.rows import Response, Scored
from scoremux_files.errors import InputError
from scoremux_files.rows.row_layout import BY_FILE_HELP

if TYPE_CHECKING:
    from scoremux_assess.sampling.drawing import SampledRows

Score = Callable[[Sequence[Response]], Sequence[Scored]]
"""Returns the outcome of each row with its embedding; a row of a task without an adapter has the backbone's own."""

_SCORERS, _REPOSITORY = "scoremux.scorers", "repository"
_QUEUES = (".parquet", ".jsonl")


@dataclass(frozen=True)
class Unlabelled:
    """A response that may be labelled next."""

    id: str
    task: str
    text: str
    student: str | None


def sample(
    sources: Annotated[list[str], typer.Argument(help="Files of responses (.jsonl, .csv, .parquet), folders, globs.")],
    out: Annotated[Path, typer.Option("--out", help="The queue for the review desk: .parquet or .jsonl.")],
    repository: Annotated[
        Path, typer.Option("--repository", help="Folder with backbone/ and, where tasks have adapters, store/.")
    ],
    count: Annotated[int, typer.Option(min=1, help="Responses to choose of each task.")] = 100,
    without: Annotated[
        list[Path] | None,
        typer.Option(
            help="Responses that are labelled or will be: labelled files and queues of the desk, or columns as below."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the random draw (default: a new one).")] = None,
    id_column: Annotated[
        str, typer.Option(help=f"Column of the rows' ids{BY_FILE_HELP}; without one, FILE:ROW.")
    ] = "id",
    task_column: Annotated[str, typer.Option(help="Column of task ids.")] = "task",
    text_column: Annotated[str, typer.Option(help="Column of the responses' texts.")] = "text",
    student_column: Annotated[
        str | None,
        typer.Option("--student-column", help="Column of who wrote it; one response of each per task."),
    ] = None,
) -> None:
    """Choose the responses that people label next, and write them as a queue for `scoremux review add`.

    It is a random sample with known, unequal probabilities: higher for responses that are unlike others and, where a
    task has an adapter, uncertain; spread, so that like responses are seldom chosen together; near copies once.

    Example: scoremux sample responses.csv --count 100 --repository repo --out queue.parquet
    """
    if out.suffix.lower() not in _QUEUES:
        raise InputError(f"{out}: a queue is written to a {' or '.join(_QUEUES)} file")
    columns = (id_column, task_column, text_column, student_column)
    pool = read_unlabelled(sources, out, columns)
    labelled = read_without(without or (), columns)
    seed = secrets.randbits(32) if seed is None else seed
    chosen = choose(pool, labelled, count, seed, _scorer_of(repository))
    rows = [row for of_task in chosen for row in of_task.rows]
    _write(out, rows)
    console = Console(stderr=True, highlight=False, markup=False)
    _report(console, chosen, seed)
    told = f"{len(rows):,} responses written to {out}; scoremux review add {out} brings them to the desk"
    console.print(told, soft_wrap=True)


@dataclass(frozen=True)
class QueuedRow:
    """A response that was chosen, its outcome, and the probability with which it was chosen."""

    row: Unlabelled
    scored: Scored
    probability: float


@dataclass(frozen=True)
class TaskSample:
    """What was chosen of a task: the rows of the queue, and of how many responses."""

    task: str
    rows: Sequence[QueuedRow]
    responses: int
    drawn: SampledRows
    ungradable: int


def choose(
    pool: Sequence[Unlabelled], labelled: Sequence[Unlabelled], count: int, seed: int, score: Score
) -> list[TaskSample]:
    """Draw `count` responses of each task, by task.

    Args:
        pool: What may be chosen.
        labelled: What is labelled or will be; it is not chosen, nor its near copies.
        count: How many of each task.
        seed: What is drawn depends on it.
        score: Returns outcomes with embeddings.

    Raises:
        InputError: A task's adapter cannot be loaded.
    """
    of_pool, of_labelled = _by_task(pool), _by_task(labelled)
    return [_choose(task, of_pool[task], of_labelled.get(task, ()), count, seed, score) for task in sorted(of_pool)]


def _by_task(rows: Sequence[Unlabelled]) -> dict[str, list[Unlabelled]]:
    by_task: dict[str, list[Unlabelled]] = {}
    for row in rows:
        by_task.setdefault(row.task, []).append(row)
    return by_task


def _choose(
    task: str, pool: Sequence[Unlabelled], labelled: Sequence[Unlabelled], count: int, seed: int, score: Score
) -> TaskSample:
    import numpy as np

    from scoremux_assess.agreement.similar_texts import related
    from scoremux_assess.sampling.drawing import Candidates, draw, thin

    part = thin(len(pool), seed, task)
    share = len(part) / max(1, len(pool))
    outcomes = score([Response(task, pool[place].text) for place in part])
    gradable = [(pool[place], s) for place, s in zip(part, outcomes, strict=True) if _people_can(task, s)]
    width = max((len(s.embedding) for _, s in gradable if s.embedding is not None), default=1)
    levels = max((len(s.probabilities) for _, s in gradable), default=0)
    ids = {row.id for row in labelled}
    # Labelled responses come last: what is drawn of the others has their places.
    rows, extra = [row for row, _ in gradable], [row for row in labelled if row.text]
    vectors = np.zeros((len(rows) + len(extra), width), np.float32)
    probabilities = np.full((len(rows) + len(extra), levels), np.nan) if levels else None
    for place, (_, scored) in enumerate(gradable):
        if scored.embedding is not None:
            vectors[place] = scored.embedding
        if probabilities is not None and scored.probabilities:
            probabilities[place] = scored.probabilities
    both = [*rows, *extra]
    is_labelled = np.array([row.id in ids for row in rows] + [True] * len(extra), bool)
    copies = related([row.text for row in both], [row.student for row in both])
    candidates = Candidates(copies, vectors, probabilities)
    drawn = draw(candidates, count, seed, task, is_labelled)
    chosen = [
        QueuedRow(gradable[place][0], gradable[place][1], share * probability)
        for place, probability in zip(drawn.rows.tolist(), drawn.probability.tolist(), strict=True)
    ]
    return TaskSample(task, chosen, len(pool), drawn, len(part) - len(gradable))


def _people_can(task: str, scored: Scored) -> bool:
    """Return whether people can grade a row. Raises InputError where the task's adapter cannot be loaded."""
    if scored.status is Status.TASK_UNAVAILABLE:
        raise InputError(f"task {task} cannot be scored: {scored.status.value}")
    return scored.status is Status.UNKNOWN_TASK or scored.status not in NOBODY_CAN


def read_unlabelled(sources: Sequence[str], out: Path, columns: tuple[str, str, str, str | None]) -> list[Unlabelled]:
    """Return the responses of files.

    Raises InputError for a row without a task or text, with a task that is no id, or with an id given twice.
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
                raise InputError(f"{path}, row {number}: {task_column} is no task's id; name its column: --task-column")
            if student_column and student_column not in row:
                raise InputError(f"{path}, row {number}: no {student_column}")
            name = row.get(id_column)
            name = f"{path.name}:{number}" if name in (None, "") else str(name)
            if (task, name) in rows and same_text(rows[task, name].text) != same_text(text):
                remedy = repeated_ids_remedy(len(files))
                raise InputError(f"{path}, row {number}: id {name[:80]!r} of {task} is given twice{remedy}")
            rows[task, name] = Unlabelled(
                name, task, text, student_of(row.get(student_column)) if student_column else None
            )
    if not rows:
        raise InputError(f"there are no rows in {', '.join(sources[:3])}")
    return list(rows.values())


def read_without(files: Sequence[Path], columns: tuple[str, str, str, str | None]) -> list[Unlabelled]:
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


def _scorer_of(repository: Path) -> Score:
    """Return what scores with a repository in this process: the engine, if it is installed. Raises InputError."""
    entries = entry_points(group=_SCORERS, name=_REPOSITORY)
    for entry in entries:
        scorer: Score = entry.load()(repository)
        return scorer
    raise InputError("--repository needs the engine: pip install 'scoremux[serve]'")


def _write(out: Path, rows: Sequence[QueuedRow]) -> None:
    import pyarrow as pa

    from scoremux_assess.agreement.weights import SAMPLE
    from scoremux_cli.batch.parts import outcome_columns, text_column
    from scoremux_files.rows.writers import SCHEMA, write_rows

    fields = [field for field in SCHEMA if field.name not in ("read_behind", "student")]
    more = [("text", pa.string()), ("student", pa.string()), ("chosen_by", pa.string()), ("probability", pa.float64())]
    schema = pa.schema([*fields, *more])
    columns = {
        **outcome_columns([r.row.id for r in rows], [r.row.task for r in rows], [r.scored for r in rows]),
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
        left_out = of_task.drawn.left_out + of_task.ungradable
        numbers = (of_task.responses, left_out, of_task.drawn.units, len(of_task.rows))
        rows.append([of_task.task, *(f"{number:,}" for number in numbers), span])
    print_table(console, titles, rows, title=f"A random sample, drawn with seed {seed}", numbers=titles[1:])
    console.print(
        "units: near copies, and with --student-column a student's responses, count once. left out: near copies of "
        "labelled responses, and what nobody can grade; figures from the sample are not about them.",
        soft_wrap=True,
    )
