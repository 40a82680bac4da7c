"""A job in one process: reads slices, sends their rows, and writes them as parts, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from scoremux_cli.batch.journal import Job, JobState, Journal
from scoremux_cli.batch.parts import remove_unfinished, write_part
from scoremux_cli.batch.people import AlertFiles
from scoremux_cli.batch.slices import Slice, read_slices
from scoremux_client.client import ScoringClient
from scoremux_client.contract import Status
from scoremux_client.rows import Response, Scored

_SHOWN_ROWS = 512
_WAITING_PARTS = 4

Progress = Callable[[JobState, int], None]
"""Called with what is done, and how many rows have got an outcome since the last part was written."""


def run(folder: Path, job: Job, journal: Journal, client: ScoringClient, progress: Progress) -> None:
    """Score what is not done yet. A job that ends with InputError or TransportError can be resumed.

    Parts become durable in order, one at a time, each before the journal names it.

    Args:
        folder: Where parts are written.
        job: What is scored.
        journal: The open journal of the folder.
        client: What scores.
        progress: Called as rows are scored.
    """
    remove_unfinished(folder)
    state = journal.state
    slices = read_slices(job, state)
    while state.source < len(job.sources):
        for part, scored in score_slices(job, slices, client, lambda rows: progress(state, rows)):
            journal.add(write_part(folder, part, scored, job.people.read_behind))
            progress(state, 0)


def score_slices(
    job: Job, slices: Iterator[Slice], client: ScoringClient, progress: Callable[[int], None] = lambda _: None
) -> Iterator[tuple[Slice, list[Scored]]]:
    """Yield slices with the outcomes of their rows, in order; an alert is on disk before the next outcome is taken.

    It ends with the slices, or earlier where many rows that are not sent wait for those before them: the client asks
    for rows until it has enough, and a long stretch of a file may have none.

    Args:
        job: The job.
        slices: Its slices; their texts are dropped once they are sent.
        client: What scores.
        progress: Called with the number of rows of the slice that have an outcome.
    """
    alert, alert_files = job.people.alert, AlertFiles(job.people.alerts)
    sent: deque[Slice] = deque()
    scored: list[Scored] = []
    outcomes = client.score_iter(_responses(job, slices, sent))
    try:
        for outcome in outcomes:
            while _complete(sent[0], scored):
                yield sent.popleft(), scored
                scored = []
            part = sent[0]
            if alert and (description := alert.describe(next(outcomes))):
                alert_files.add(part.number, part.name_of(len(scored)) | description)
            scored.append(outcome)
            if _complete(part, scored):
                yield sent.popleft(), scored
                scored = []
            elif len(scored) % _SHOWN_ROWS == 0:
                progress(len(scored))
    finally:
        outcomes.close()  # type: ignore[attr-defined]
    for part in sent:
        _complete(part, scored)
        yield part, scored
        scored = []


def _complete(part: Slice, scored: list[Scored]) -> bool:
    """Add the outcomes of rows without a text that are next; return whether all rows have an outcome."""
    while len(scored) in part.without_text:
        row = Response(part.tasks[len(scored)], "")
        scored.append(Scored.without_score(row, Status.INVALID_TEXT))
    return len(scored) == len(part)


def _responses(job: Job, slices: Iterator[Slice], sent: deque[Slice]) -> Iterator[Response]:
    """Yield the rows of slices, each followed by itself for the alert task if there is one; note the slices in `sent`.

    A slice lets go of its texts: from then on the client holds them.
    """
    alert = job.people.alert
    for part in slices:
        sent.append(part)
        for task, text in zip(part.tasks, part.texts, strict=True):
            if text is None:
                continue
            yield Response(task, text)
            if alert:
                yield Response(alert.task, text)
        part.texts = []
        if sum(len(p.rejected) + len(p.without_text) for p in sent) >= _WAITING_PARTS * job.layout.part_rows:
            return
