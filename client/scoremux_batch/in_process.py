"""A job in one process: its client, the rows of slices that it sends, and the parts that it writes, in order."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, cast

from scoremux_batch.job import Job
from scoremux_batch.journal import JobState, Journal
from scoremux_batch.parts import remove_unfinished, write_part
from scoremux_batch.people import AlertFiles
from scoremux_batch.slices import Slice, read_slices
from scoremux_batch.task_order import TaskOrder, TaskSlice
from scoremux_client.calls.servers import Retries
from scoremux_client.client import ScoringClient
from scoremux_client.rows import Response, Scored
from scoremux_client.transports.transport import Tls

_SHOWN_S = 0.2
_WAITING_PARTS = 4

Progress = Callable[[JobState, int], None]
"""Called with what is done, and how many rows of the next part have an outcome."""


@dataclass(frozen=True)
class Connection:
    """The options of a client. They may be sent to another process, which opens a client of its own."""

    urls: tuple[str, ...]
    token: str | None = field(default=None, repr=False)
    patience_s: float = 300.0
    tls: Tls | None = None
    insecure: bool = False
    mixed_arithmetic: bool = False

    def open(self) -> ScoringClient:
        """Return the client. Raises InputError for an address."""
        return ScoringClient(
            self.urls,
            retries=Retries(patience_s=self.patience_s),
            tls=self.tls,
            token=self.token,
            insecure=self.insecure,
            batch=True,
            mixed_arithmetic=self.mixed_arithmetic,
        )


def run(folder: Path, job: Job, journal: Journal, client: ScoringClient, progress: Progress) -> None:
    """Score what is not done yet. A job that ends with InputError or TransportError can be resumed.

    Parts become durable in order, one at a time, each before the journal names it. A new job over many tasks is scored
    in their order first.
    """
    remove_unfinished(folder)
    state, order = journal.state, TaskOrder(folder, job)
    slices = read_slices(job, state)
    if order.is_begun or (not journal.resumed and order.pays()):
        with order:
            _run_by_task(folder, job, journal, client, progress, order)
        order.remove()
    while state.source < len(job.sources):
        for part, scored in score_slices(job, slices, client, partial(progress, state)):
            journal.add(write_part(folder, part, scored, job.people.read_behind))
            progress(state, 0)


def _run_by_task(
    folder: Path, job: Job, journal: Journal, client: ScoringClient, progress: Progress, order: TaskOrder
) -> None:
    """Score what has no outcome yet in the order of tasks, then write the parts in the order of the sources."""
    state = journal.state
    journal.check_arithmetic(order.arithmetic)
    for part, scored in score_slices(job, order.slices(), client, lambda rows: progress(state, order.done + rows)):
        journal.check_arithmetic(outcome.arithmetic for outcome in scored)
        order.save(cast(TaskSlice, part), scored)
    for part in read_slices(job, state):
        outcomes = order.outcomes(part, state.rows)
        journal.add(write_part(folder, part, outcomes, job.people.read_behind))
        progress(state, order.done - state.rows)


def score_slices(
    job: Job, slices: Iterator[Slice], client: ScoringClient, note: Callable[[int], None] = lambda _: None
) -> Iterator[tuple[Slice, list[Scored]]]:
    """Yield slices with the outcomes of their rows, in order; an alert is on disk before the next outcome is taken.

    Rows of a slice are sent by task, then length: a server computes rows of one task and length together faster.

    It ends with the slices, or earlier where many rejected rows wait for those before them: the client asks for rows
    until it has enough, and a long stretch of a file may have none. `note` is called several times a second with the
    number of rows of the next slice that have an outcome.
    """
    alert, alert_files, condition = job.people.alert, AlertFiles(job.people.alerts), job.people.condition
    sent: deque[_Sent] = deque()
    outcomes = client.score_iter(_responses(job, slices, sent))
    noted_at = time.monotonic()
    try:
        for outcome in outcomes:
            while sent[0].is_complete:
                yield sent.popleft().in_order()
            part, scored, order = sent[0]
            if alert and (description := alert.describe(next(outcomes))):
                alert_files.add(part.number, part.name_of(order[len(scored)]) | description)
            scored.append(condition.add(outcome, next(outcomes)) if condition else outcome)
            if sent[0].is_complete:
                yield sent.popleft().in_order()
            elif (now := time.monotonic()) - noted_at >= _SHOWN_S:
                note(len(scored))
                noted_at = now
    finally:
        outcomes.close()  # type: ignore[attr-defined]
    yield from (one.in_order() for one in sent)


class _Sent(NamedTuple):
    """A slice with the outcomes that it has so far. order: the places of its rows in the order of sending."""

    part: Slice
    scored: list[Scored]
    order: list[int]

    @property
    def is_complete(self) -> bool:
        return len(self.scored) == len(self.order)

    def in_order(self) -> tuple[Slice, list[Scored]]:
        """Return the outcomes in the order of the slice's rows."""
        placed = sorted(zip(self.order, self.scored, strict=True), key=itemgetter(0))
        return self.part, [outcome for _, outcome in placed]


def _responses(job: Job, slices: Iterator[Slice], sent: deque[_Sent]) -> Iterator[Response]:
    """Yield the rows of slices, each followed by itself for the tasks of alerts and conditions.

    `sent` receives each slice. A slice lets go of its texts: from then on the client holds them.
    """
    for part in slices:
        rows = list(zip(part.tasks, part.texts, part.ids, strict=True))
        order = sorted(range(len(rows)), key=lambda place: (rows[place][0], len(rows[place][1])))
        sent.append(_Sent(part, [], order))
        part.texts = []
        for place in order:
            yield (response := Response(*rows[place]))
            yield from (Response(other, response.text) for other in job.people.tasks)
        if sum(len(one.part.rejected) for one in sent) >= _WAITING_PARTS * job.layout.part_rows:
            return
