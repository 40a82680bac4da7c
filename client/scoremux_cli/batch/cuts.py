"""Where the slices of a job begin. Once its files have been read for that, each slice can be scored by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from scoremux_cli.batch.journal import Done, Job
from scoremux_cli.batch.slices import read_source
from scoremux_files.rows.records import ReadPosition


@dataclass(frozen=True)
class Cut:
    """The beginning of a slice. source: the file's index in the job. part: the number of the part it is written to."""

    source: int
    place: ReadPosition
    part: int


@dataclass(frozen=True)
class Found:
    """The beginning of a slice within a file. filled: whether it has rows or rejected ones, and so becomes a part.

    after_row: rows read of the file when it ends; a job's rows are counted on from file to file.
    """

    source: int
    place: ReadPosition
    after_row: int
    filled: bool


def find(job: Job, source: int, place: ReadPosition) -> Iterator[Found]:
    """Yield the slices of one file from `place` on, in order. Raises InputError if the file has changed."""
    for part in read_source(job, source, place):
        yield Found(source, place, part.after.row, bool(part.ids or part.rejected))
        place = part.after


def start(source: int, done: Done) -> ReadPosition:
    """Return where reading a file begins: at its start, or where the job resumes."""
    return done.place if source == done.source else ReadPosition()


def number(found: Iterable[Found], done: Done) -> list[Cut]:
    """Return the cuts, numbered as a job in one process numbers them, which reads one file after the other."""
    cuts: list[Cut] = []
    source, part, before, row = done.source, done.parts, 0, done.place.row
    for slice_ in found:
        if slice_.source != source:
            source, before = slice_.source, row
        cuts.append(Cut(source, slice_.place._replace(row=before + slice_.place.row), part))
        row = before + slice_.after_row
        part += slice_.filled
    return cuts
