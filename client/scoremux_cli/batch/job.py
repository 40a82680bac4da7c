"""A job from its first row to its last: slices are read, sent and written in order, many rows under way at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Protocol

from scoremux_cli.batch.csv_rows import read_csv
from scoremux_cli.batch.durable import TEMPORARY
from scoremux_cli.batch.journal import Done, Job, Journal
from scoremux_cli.batch.jsonl import read_jsonl
from scoremux_cli.batch.parquet_rows import read_parquet
from scoremux_cli.batch.parts import REJECTED, write_part
from scoremux_cli.batch.slices import Layout, Place, Slice
from scoremux_client.errors import InputError
from scoremux_client.response import Response
from scoremux_client.scored import Scored

READERS: dict[str, Callable[[Path, Layout, Place], Iterator[Slice]]] = {
    ".jsonl": read_jsonl,
    ".csv": read_csv,
    ".parquet": read_parquet,
}
_SHOWN_ROWS = 512


class Client(Protocol):
    """What a job needs of a `ScoringClient`."""

    def score_iter(self, responses: Iterable[Response]) -> Iterator[Scored]: ...


Progress = Callable[[Done, int], None]
"""Told what is done, and how many rows have an outcome since the last part was written."""


def read_slices(job: Job, source: int = 0, place: Place | None = None) -> Iterator[tuple[int, Slice]]:
    """Yield the slices of all sources with the source's index. Raises InputError where a source has changed."""
    place = place or Place()
    for index in range(source, len(job.sources)):
        file = job.sources[index]
        file.check()
        try:
            for part in READERS[file.kind](Path(file.path), job.layout, place):
                if part.done:
                    file.check()
                yield index, part
                place = part.after
        except OSError as error:
            raise InputError(f"{file.path} cannot be read: {error.strerror or error}") from error
        place = Place(row=place.row)


def run(folder: Path, job: Job, journal: Journal, client: Client, progress: Progress) -> None:
    """Score what is not done yet. Raises InputError and, by way of the client, TransportError; then the job may go on.

    Parts become durable in order, one at a time, each before the journal says so.
    """
    _tidy(folder)
    done = journal.done
    if done.source >= len(job.sources):
        return
    under_way: deque[tuple[int, Slice]] = deque()
    outcomes = client.score_iter(_responses(read_slices(job, done.source, done.place), under_way))
    try:
        for scored, (index, part) in _collected(outcomes, under_way, lambda rows: progress(done, rows)):
            counts = _written(folder, done.parts, job.sources[index].path, part, scored)
            place = Place(row=part.after.row) if part.done else part.after
            journal.add({"source": index + part.done, "place": asdict(place), **counts})
            progress(done, 0)
    finally:
        outcomes.close()  # type: ignore[attr-defined]


def _responses(slices: Iterator[tuple[int, Slice]], under_way: deque[tuple[int, Slice]]) -> Iterator[Response]:
    for index, part in slices:
        under_way.append((index, part))
        yield from (Response(task, text) for task, text in zip(part.tasks, part.texts, strict=True))
        part.texts = []  # sent, or held by the client


def _collected(
    outcomes: Iterator[Scored], under_way: deque[tuple[int, Slice]], progress: Callable[[int], None]
) -> Iterator[tuple[list[Scored], tuple[int, Slice]]]:
    """Yield each slice with its outcomes, once it has them all."""
    scored: list[Scored] = []
    while True:
        missing = len(under_way[0][1]) - len(scored) if under_way else 1
        if not missing:
            yield scored, under_way.popleft()
            scored = []
            continue
        some = list(islice(outcomes, min(missing, _SHOWN_ROWS)))
        if not some and not under_way:
            return
        scored += some
        progress(len(scored))


def _written(folder: Path, number: int, source: str, part: Slice, scored: list[Scored]) -> dict[str, object]:
    try:
        return write_part(folder, number, source, part, scored)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror or error}") from error


def _tidy(folder: Path) -> None:
    """Remove what a crash left half written."""
    for place in (folder, folder / REJECTED):
        for aside in place.glob(f".part-*{TEMPORARY}"):
            aside.unlink()
