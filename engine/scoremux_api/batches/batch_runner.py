"""Computes batches in the background, and removes those that are too old.

A batch runs in turns of some minutes, each with a fresh grant. It gives way after a part where a batch of another token
waits, so that no token waits for another's whole batch. Several processes may share a folder and a database: a batch's
lock says who computes it, and a process that was killed has let go of it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from functools import partial
from typing import Any

from scoremux_api.batches import batch_table
from scoremux_api.batches.batch_files import HALF, LAYOUT, BatchFiles
from scoremux_api.batches.batch_grants import BatchGrants
from scoremux_api.batches.batch_table import ENDED, UNDER_WAY, BatchError, BatchState, RequestCounts
from scoremux_api.callers import Caller
from scoremux_api.problems import ApiProblem
from scoremux_api.rows.live_intake import RowConflictError, ScoredArrival, describe_alerts
from scoremux_api.services import Services
from scoremux_cli.batch.job import score_slices
from scoremux_cli.batch.journal import Job, JobState, Journal
from scoremux_cli.batch.parts import UnfinishedPart, remove_unfinished, write_part
from scoremux_cli.batch.slices import Slice, read_slices, read_source
from scoremux_cli.batch.sources import expand
from scoremux_client.errors import TransportError
from scoremux_client.rows import Response, Scored
from scoremux_files.errors import first_of, writing
from scoremux_review.erasure import expire
from scoremux_review.errors import DatabaseError
from scoremux_server.errors import SetupError

_AT_ONCE = 4
_TURN_S, _REST_S, _LOOK_S, _TIDY_S = 300.0, 5.0, 1.0, 3600.0
_STOP_S, _COMMIT_S, _ORPHAN_S = 5.0, 30.0, 86_400.0
_PASSING = (TransportError, DatabaseError, SetupError, FutureTimeoutError, OSError)
"""What does not end a batch: it is computed later."""

log = logging.getLogger(__name__)


class _TurnOverError(Exception):
    """The batch goes on in another turn, or has ended."""


class BatchRunner:
    """Runs batches of all tokens, `_AT_ONCE` at a time and one of each token."""

    def __init__(self, services: Services) -> None:
        self._services, self._database = services, services.database
        self._root, self._grants = services.settings.folder, BatchGrants(services.settings)
        self._stopping, self._lock = threading.Event(), threading.Lock()
        self._turns: dict[str, tuple[str, threading.Thread]] = {}  # batch -> its token, and what computes it
        self._served: dict[str, float] = {}  # token -> when its last turn ended
        self._others_wait = False
        self._thread = threading.Thread(target=self._schedule, name="batches", daemon=True)

    def start(self) -> None:
        """Begin to run batches, also those that an earlier process left."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; what is under way resumes with the next process."""
        self._stopping.set()
        self._services.batch_added.set()
        for thread in (self._thread, *(thread for _, thread in list(self._turns.values()))):
            thread.join(_STOP_S)

    def _schedule(self) -> None:
        tidied_at = -_TIDY_S
        while not self._stopping.is_set():
            self._services.batch_added.clear()
            try:
                self._start_turns()
                if time.monotonic() - tidied_at > _TIDY_S:
                    tidied_at = time.monotonic()
                    self._tidy()
            except Exception as error:
                log.warning("batches wait: %s", error, exc_info=not isinstance(error, _PASSING))
            self._services.batch_added.wait(_LOOK_S)

    def _start_turns(self) -> None:
        """Start the first batch of each token that has none running, the token first that has waited longest."""
        with self._database.read() as connection:
            rows = batch_table.rows_in(connection, UNDER_WAY)
        with self._lock:
            busy, first = {token for token, _ in self._turns.values()}, dict[str, Any]()
            for row in rows:
                is_cancelled = row.state == "cancelling"  # which waits for no other batch of the token
                may_run = row.id not in self._turns and (is_cancelled or row.token not in busy)
                if may_run and BatchFiles(self._root, row.id).folder.exists():
                    first.setdefault(row.id if is_cancelled else row.token, row)
            waiting = sorted(first.values(), key=lambda row: self._served.get(row.token, 0.0))
            free = max(0, _AT_ONCE - len(self._turns))
            self._others_wait = len(waiting) > free
            for row in waiting[:free]:
                thread = threading.Thread(target=self._turn, args=(row,), name=row.id, daemon=True)
                self._turns[row.id] = row.token, thread
                thread.start()

    def _turn(self, row: Any) -> None:
        """Bring a batch as far as it gets in this turn."""
        files, rest_s = BatchFiles(self._root, row.id), 0.0
        try:
            with files.lock():  # BlockingIOError where another process computes it
                while step := self._step(row.id):
                    step(row.id, files)
        except _TurnOverError:
            pass
        except Exception as error:
            rest_s = _REST_S
            if failure := _failure(row.id, error):
                with suppress(DatabaseError):  # it fails again in the next turn
                    self._end("failed", row.id, files, error=failure)
        self._stopping.wait(rest_s)
        with self._lock:
            del self._turns[row.id]
            self._served[row.token] = time.monotonic()
        self._services.batch_added.set()

    def _step(self, batch: str) -> Callable[[str, BatchFiles], None] | None:
        """Return what comes next; None where the batch has ended."""
        with self._database.read() as connection:
            state = batch_table.row_of(connection, batch).state
        steps: dict[str, Callable[[str, BatchFiles], None]] = {
            "validating": self._validate,
            "in_progress": self._score,
            "finalizing": partial(self._end, "completed"),
            "cancelling": partial(self._end, "cancelled"),
        }
        return steps.get(state)

    def _validate(self, batch: str, files: BatchFiles) -> None:
        total, failed = files.validate()
        counts = RequestCounts(total=total, failed=failed)
        if total > failed:
            self._move(batch, ("validating",), "in_progress", counts=counts)
        else:
            error = BatchError(code="no_rows", message=f"none of {total:,} lines is a row; see the errors")
            self._end("failed", batch, files, counts=counts, error=error)

    def _score(self, batch: str, files: BatchFiles) -> None:
        """Score a batch until it is done, or the turn is over."""
        with self._database.read() as connection:
            row = batch_table.row_of(connection, batch)
        with writing(files.scores):
            files.scores.mkdir(exist_ok=True)
            remove_unfinished(files.scores)
        job = Job(expand([str(files.rows)]), LAYOUT, mixed_arithmetic=True)  # each row says what computed it
        client, unfinished = self._services.scorer.batch_client(self._grants.fresh(row)), UnfinishedPart(files.scores)
        with Journal(files.scores, job) as journal:
            state, looked_at = journal.state, 0.0

            def note(part: Slice, scored: list[Scored]) -> None:
                nonlocal looked_at
                if self._stopping.is_set() or time.monotonic() - looked_at > _LOOK_S:
                    looked_at = time.monotonic()
                    self._count(batch, state)
                unfinished.save(part, scored)

            for part, scored in score_slices(job, self._slices(job, state), client, unfinished.load, note):
                self._grants.check(row, part.tasks)
                self._commit(row, next(read_source(job, part.index, part.start, part.number)), scored)
                journal.add(write_part(files.scores, part, scored))
                unfinished.remove()
                self._count(batch, state)
            if state.source < len(job.sources):
                raise _TurnOverError
        self._move(batch, ("in_progress",), "finalizing")

    def _slices(self, job: Job, state: JobState) -> Iterator[Slice]:
        """Yield the slices of one turn, one at least."""
        ends_at = time.monotonic() + _TURN_S
        for part in read_slices(job, state):
            yield part
            if self._others_wait or time.monotonic() > ends_at:
                return

    def _count(self, batch: str, state: JobState) -> None:
        """Note how many rows are done. Raises _TurnOverError where the batch is no longer to be scored."""
        with self._database.write() as connection:
            goes_on = batch_table.count_completed(connection, batch, state.rows)
        if not goes_on or self._stopping.is_set():
            raise _TurnOverError

    def _commit(self, batch: Any, part: Slice, scored: list[Scored]) -> None:
        """Commit the rows of a part that people read, before anybody sees the part's outcomes."""
        services, alert = self._services, self._services.settings.alert
        texts = [None if text == HALF else str(text) for text in part.texts]
        caller = Caller(batch.token, ())
        caller = services.callers.may_also_score(caller, alert.task) if alert else caller
        rows = [Response(task, text) for task, text in zip(part.tasks, texts, strict=True)]
        alerts = asyncio.run(describe_alerts(services.scorer, alert, caller, rows))
        cells = zip(part.ids, part.tasks, texts, scored, alerts, strict=True)
        arrivals = [ScoredArrival(*row) for row in cells]
        try:
            services.intake.add(batch.token, arrivals).result(_COMMIT_S)
        except RowConflictError as error:  # its ids would outlive their erasure
            numbers = [str(n) for n, row in zip(part.lines, arrivals, strict=True) if row in error.arrivals]
            taken = f"the desk has the rows of these lines with another text: {first_of(numbers)}; give new ids"
            raise ApiProblem(409, error.title, taken) from None

    def _end(self, state: BatchState, batch: str, files: BatchFiles, **values: Any) -> None:
        self._move(batch, UNDER_WAY, state, **values)
        files.remove_texts()

    def _move(self, batch: str, before: Sequence[BatchState], after: BatchState, **values: Any) -> None:
        with self._database.write() as connection:
            batch_table.move(connection, batch, before, after, self._database.now(), **values)

    def _tidy(self) -> None:
        """Remove rows, answers and batches that are too old, texts of ended batches, and folders without a batch."""
        keep_days, now = self._services.settings.keep_days, self._database.now()
        limit = -1.0 if keep_days is None else now - keep_days * 86_400
        if keep_days is not None:
            expire(self._database, limit, f"scoremux api --keep-days {keep_days}")
        with self._database.read() as connection:
            rows = {row.id: row for row in batch_table.rows_in(connection, (*UNDER_WAY, *ENDED))}
        for folder in self._root.glob("batch_*"):
            files, row = BatchFiles(self._root, folder.name), rows.get(folder.name)
            age_s = now - folder.stat().st_mtime  # before the lock, whose file is in it
            with suppress(BlockingIOError), files.lock():
                if row is None and age_s > _ORPHAN_S:
                    files.remove()
                elif row is not None and row.changed_at < limit:
                    self._move(row.id, (*UNDER_WAY, *ENDED), "expired")
                    files.remove()
                elif row is not None and row.state in ENDED:
                    files.remove_texts()


def _failure(batch: str, error: Exception) -> BatchError | None:
    """Return why an error ends a batch; None where the batch is computed later."""
    if isinstance(error, ApiProblem) and error.retry_after is None:
        return BatchError(code=error.title.lower().replace(" ", "_"), message=error.detail)
    if isinstance(error, (*_PASSING, ApiProblem)) or isinstance(error.__cause__, OSError):
        if not isinstance(error, BlockingIOError):
            log.warning("the batch %s waits: %s", batch, error)
        return None
    log.error("the batch %s failed", batch, exc_info=error)
    return BatchError(code="internal_error", message="the API failed; its log says why")
