"""Rows of finished parts that are scored again because of their status, such as `SERVER_DIED`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from scoremux_batch.job import Progress, score_slices
from scoremux_batch.journal import Job, Journal
from scoremux_batch.parts import line_of, part_path, read_table, table_of, write_table
from scoremux_batch.slices import Slice, read_source
from scoremux_client.client import ScoringClient
from scoremux_client.contract import Status
from scoremux_files.errors import InputError
from scoremux_files.rows.row_layout import FILE_START, ReadPosition


def retry_rows(
    folder: Path, job: Job, journal: Journal, client: ScoringClient, statuses: Collection[Status], progress: Progress
) -> int:
    """Score the rows of done parts again that have one of some statuses; return how many.

    A part is written again as a whole before the journal counts it: after a kill in between, give the same command
    again.
    """
    names = {status.value for status in statuses}
    tried = 0
    for index, part in done_parts(job, journal):
        counts = journal.lines[index]["counts"].values()
        if not any(names & tally.keys() for tally in counts):
            continue
        table = read_table(part_path(folder, part.number))
        places = [place for place, status in enumerate(table["status"].to_pylist()) if status in names]
        if places:
            table = _tried_again(job, client, part, table, places)
            write_table(folder, part.number, table)
        journal.replace(index, line_of(part, table, job.people.read_behind is not None))
        tried += len(places)
        progress(journal.state, 0)
    return tried


def done_parts(job: Job, journal: Journal) -> Iterator[tuple[int, Slice]]:
    """Yield the place of each done part's line in the journal, and the slice that it is of. Raises InputError."""
    source, position, number = 0, FILE_START, 0
    for index, line in enumerate(journal.lines):
        if line["rows"]:
            yield index, next(read_source(job, source, position, number))
        source, position, number = line["source"], ReadPosition(**line["position"]), number + line["files"]


def _tried_again(job: Job, client: ScoringClient, part: Slice, table: Any, places: Sequence[int]) -> Any:
    """Return a part's table with new outcomes of the rows at some places; the table lacks rows that were erased."""
    lines, position = table["line"].to_pylist(), {line: place for place, line in enumerate(part.lines)}
    if not position.keys() >= set(lines):
        raise InputError(
            f"{part.source.path} has other rows than when the job began; restore it, or give another --out"
        )
    rows = part.take([position[lines[place]] for place in places])
    [(_, scored)] = score_slices(job, iter([rows]), client)
    outcomes = table.to_pylist()
    for place, outcome in zip(places, table_of(rows, scored, job.people.read_behind).to_pylist(), strict=True):
        outcomes[place] = outcome
    return pa.Table.from_pylist(outcomes, schema=table.schema)
