"""A job in one process: reads slices, sends their rows, and writes them as parts, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from scoremux_cli.batch.journal import Done, Job, Journal
from scoremux_cli.batch.parts import REJECTED, write_part
from scoremux_cli.batch.people import Client, row_name
from scoremux_cli.batch.slices import Slice, read_slices
from scoremux_client.errors import InputError
from scoremux_client.rows import Response, Scored
from scoremux_files.atomic import NEW
from scoremux_files.rows.records import ReadPosition, RowLayout

_SHOWN_ROWS = 512
_WAITING_PARTS = 4


Progress = Callable[[Done, int], None]
"""Called with what is done, and how many rows have got an outcome since the last part was written."""


def run(folder: Path, job: Job, journal: Journal, client: Client, progress: Progress) -> None:
    """Score what is not done yet. A job that ends with InputError or TransportError can be resumed.

    Parts become durable in order, one at a time, each before the journal says so.
    """
    tidy(folder)
    done = journal.done
    slices = read_slices(job, done.source, done.place)
    while done.source < len(job.sources):
        sent: deque[tuple[int, Slice]] = deque()
        place = partial(_place, done, job, sent)
        outcomes = job.people.outcomes(client, _responses(slices, sent, job.layout), place)
        try:
            for scored, (index, part) in _collected(outcomes, sent, lambda rows: progress(done, rows)):
                journal.add(write_slice(folder, done.parts, job, index, part, scored))
                progress(done, 0)
        finally:
            outcomes.close()  # type: ignore[attr-defined]


def responses(part: Slice) -> Iterator[Response]:
    """Yield the rows of a slice to send, and let go of its texts: from then on the client holds them."""
    rows = zip(part.tasks, part.texts, part.lines, part.ids, strict=True)
    yield from (Response(task, text, row_name(line, id_)) for task, text, line, id_ in rows)
    part.texts = []


def write_slice(
    folder: Path, number: int, job: Job, source: int, part: Slice, scored: Sequence[Scored]
) -> dict[str, Any]:
    """Write a slice with its outcomes as part `number`; return its line for the journal. Raises InputError."""
    try:
        path = job.sources[source].path
        counts = write_part(folder, number, path, part, scored, job.people.read_behind)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror or error}") from error
    place = ReadPosition(row=part.after.row) if part.done else part.after
    return {"source": source + part.done, "place": place._asdict(), **counts}


def _place(done: Done, job: Job, sent: deque[tuple[int, Slice]]) -> tuple[int, str]:
    """Return the number of the part that the next outcome belongs to, and the path of its source."""
    number = done.parts
    for index, part in sent:
        if len(part):
            return number, job.sources[index].path
        number += bool(part.rejected)
    return number, ""


def tidy(folder: Path) -> None:
    """Remove what a crash left half written."""
    for place in (folder, folder / REJECTED):
        for aside in place.glob(f"{NEW}*"):
            aside.unlink(missing_ok=True)


def _responses(
    slices: Iterator[tuple[int, Slice]], sent: deque[tuple[int, Slice]], layout: RowLayout
) -> Iterator[Response]:
    """Yield rows to the end of the sources, or until many rejected ones wait for the rows before them.

    The client asks until it has rows enough, and a long stretch of a file may have none.
    """
    for index, part in slices:
        sent.append((index, part))
        yield from responses(part)
        if sum(len(waiting.rejected) for _, waiting in sent) >= _WAITING_PARTS * layout.part_rows:
            return


def _collected(
    outcomes: Iterator[Scored], sent: deque[tuple[int, Slice]], progress: Callable[[int], None]
) -> Iterator[tuple[list[Scored], tuple[int, Slice]]]:
    """Yield each slice with its outcomes, once it has them all."""
    scored: list[Scored] = []
    while True:
        missing = len(sent[0][1]) - len(scored) if sent else 1
        if missing <= 0:  # below 0 if slices without rows come before the first outcome
            index, part = sent.popleft()
            yield scored[: len(part)], (index, part)
            scored = scored[len(part) :]
            continue
        some = list(islice(outcomes, min(missing, _SHOWN_ROWS)))
        if not some and not sent:
            return
        scored += some
        progress(len(scored))
