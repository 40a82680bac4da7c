"""Computes batches in the background, and removes those that are too old.

A batch runs in turns of some minutes, each with a fresh grant. It gives way after a part where a batch of another token
waits, so that no token waits for another's whole batch. Several processes may share a folder and a database: a batch's
lock says who computes it, and a process that was killed has let go of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from scoremux_api.batches import batch_table
from scoremux_api.batches.batch_files import HALF, LAYOUT, BatchFiles
from scoremux_api.batches.batch_grants import BatchGrants, RefusedError
from scoremux_api.batches.batch_table import ENDED, UNDER_WAY, BatchError, BatchState, RequestCounts
from scoremux_api.callers import Caller
from scoremux_api.problems import ApiProblem
from scoremux_api.rows.live_intake import ScoredArrival
from scoremux_api.services import Services
from scoremux_cli.batch.job import score_slices
from scoremux_cli.batch.journal import Job, JobState, Journal
from scoremux_cli.batch.parts import UnfinishedPart, remove_unfinished, write_part
from scoremux_cli.batch.slices import Slice, read_slices, read_source
from scoremux_cli.batch.sources import expand
from scoremux_client.errors import TransportError, UnavailableError
from scoremux_client.rows import Response, Scored
from scoremux_files.errors import InputError, writing
from scoremux_review.errors import DatabaseError

_AT_ONCE = 4
_TURN_S, _REST_S, _LOOK_S, _TIDY_S = 300.0, 5.0, 1.0, 3600.0
_STOP_S, _COMMIT_S = 5.0, 30.0
_ORPHAN_S = 86_400.0

log = logging.getLogger(__name__)


class _TurnOverError(Exception):
    """The batch goes on in another turn."""


class BatchRunner:
    """Runs batches of all tokens, `_AT_ONCE` at a time and one of each token."""

    def __init__(self, services: Services) -> None:
        self._services, self._database = services, services.database
        self._root = services.settings.folder
        self._grants = BatchGrants(services.settings)
        self._wake, self._stopping, self._lock = services.batch_added, threading.Event(), threading.Lock()
        self._running: dict[str, threading.Thread] = {}
        self._tokens: dict[str, str] = {}  # of the batches that run
        self._served: dict[str, float] = {}  # token -> when its last turn ended
        self._rests: dict[str, float] = {}  # batch -> when it may run again
        self._others_wait = False
        self._tidied_at = -_TIDY_S
        self._thread = threading.Thread(target=self._schedule, name="batches", daemon=True)

    def start(self) -> None:
        """Begin to run batches, also those that an earlier process left."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; what is under way resumes with the next process."""
        self._stopping.set()
        self._wake.set()
        for thread in (self._thread, *list(self._running.values())):
            thread.join(_STOP_S)

    def _schedule(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                self._start_turns()
                if time.monotonic() - self._tidied_at > _TIDY_S:
                    self._tidied_at = time.monotonic()
                    self._tidy()
            except DatabaseError as error:
                log.warning("batches wait: %s", error)
            except Exception:
                log.exception("batches wait")
            self._wake.wait(_LOOK_S)

    def _start_turns(self) -> None:
        """Start the first batch of each token that has none running, the token first that has waited longest."""
        with self._database.read() as connection:
            rows = batch_table.rows_in(connection, UNDER_WAY)
        now = time.monotonic()
        with self._lock:
            first: dict[str, Any] = {}
            for row in rows:
                is_free = row.id not in self._running and self._rests.get(row.id, 0.0) <= now
                if (
                    is_free
                    and row.token not in self._tokens.values()
                    and BatchFiles(self._root, row.id).folder.exists()
                ):
                    first.setdefault(row.token, row)
            waiting = sorted(first.values(), key=lambda row: self._served.get(row.token, 0.0))
            free = max(0, _AT_ONCE - len(self._running))
            self._others_wait = len(waiting) > free
            for row in waiting[:free]:
                thread = threading.Thread(target=self._turn, args=(row,), name=row.id, daemon=True)
                self._running[row.id], self._tokens[row.id] = thread, row.token
                thread.start()

    def _turn(self, row: Any) -> None:
        files, rest_s = BatchFiles(self._root, row.id), 0.0
        try:
            with files.lock():
                self._advance(row.id, files)
        except _TurnOverError:
            pass
        except BlockingIOError:  # another process computes it
            rest_s = _REST_S
        except Exception as error:
            log.warning("the batch %s waits: %s", row.id, error)
            rest_s = _REST_S
        with self._lock:
            del self._running[row.id], self._tokens[row.id]
            self._served[row.token] = time.monotonic()
            self._rests[row.id] = time.monotonic() + rest_s
        if not rest_s:
            self._wake.set()

    def _advance(self, batch: str, files: BatchFiles) -> None:
        """Bring a batch as far as it gets in this turn. Raises what ends the turn."""
        try:
            while step := self._step(batch):
                step(batch, files)
        except (_TurnOverError, TransportError, DatabaseError):
            raise
        except RefusedError as error:
            self._fail(batch, files, BatchError(code=error.code, message=str(error)))
        except ApiProblem as error:
            self._fail(batch, files, BatchError(code=error.title.lower().replace(" ", "_"), message=error.detail))
        except Exception:
            log.exception("the batch %s failed", batch)
            self._fail(batch, files, BatchError(code="internal_error", message="the API failed; its log says why"))

    def _step(self, batch: str) -> Callable[[str, BatchFiles], None] | None:
        """Return what comes next; None where the batch has ended."""
        with self._database.read() as connection:
            state = BatchState(batch_table.row_of(connection, batch).state)
        return {
            BatchState.VALIDATING: self._validate,
            BatchState.IN_PROGRESS: self._score,
            BatchState.FINALIZING: self._complete,
            BatchState.CANCELLING: self._cancel,
        }.get(state)

    def _validate(self, batch: str, files: BatchFiles) -> None:
        total, failed = files.validate()
        if total == failed:
            what = f"none of the {total:,} lines is a row; see the errors" if total else "the file has no rows"
            self._fail(
                batch, files, BatchError(code="no_rows", message=what), RequestCounts(total=total, failed=failed)
            )
            return
        counts = RequestCounts(total=total, failed=failed)
        self._move(batch, (BatchState.VALIDATING,), BatchState.IN_PROGRESS, counts=counts)

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
        self._move(batch, (BatchState.IN_PROGRESS,), BatchState.FINALIZING)

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
        texts = [None if text == HALF else str(text) for text in part.texts]
        cells = zip(part.ids, part.tasks, texts, scored, self._alerts(batch, texts), strict=True)
        self._services.intake.add(batch.token, [ScoredArrival(*row) for row in cells]).result(_COMMIT_S)

    def _alerts(self, batch: Any, texts: Sequence[str | None]) -> Sequence[Mapping[str, Any] | None]:
        """Return what `--alert` says of each text; None where it is no alert."""
        alert, services = self._services.settings.alert, self._services
        if alert is None:
            return [None] * len(texts)
        caller = services.callers.may_also_score(Caller(batch.token, ()), alert.task)
        outcomes = services.scorer.batch_client(caller.grant).score([Response(alert.task, text) for text in texts])
        try:
            described = [alert.describe(outcome) for outcome in outcomes]
        except InputError as error:
            raise UnavailableError(str(error)) from None
        return [None if text is None else alert for text, alert in zip(texts, described, strict=True)]

    def _complete(self, batch: str, files: BatchFiles) -> None:
        self._move(batch, (BatchState.FINALIZING,), BatchState.COMPLETED)
        files.remove_texts()

    def _cancel(self, batch: str, files: BatchFiles) -> None:
        self._move(batch, (BatchState.CANCELLING,), BatchState.CANCELLED)
        files.remove_texts()

    def _fail(self, batch: str, files: BatchFiles, error: BatchError, counts: RequestCounts | None = None) -> None:
        self._move(batch, UNDER_WAY, BatchState.FAILED, counts=counts, errors=[error])
        files.remove_texts()

    def _move(self, batch: str, before: tuple[BatchState, ...], after: BatchState, **values: Any) -> None:
        with self._database.write() as connection:
            batch_table.move(connection, batch, before, after, self._database.now(), **values)

    def _tidy(self) -> None:
        """Remove batches that are too old, the texts of those that have ended, and folders without a batch."""
        keep_days, now = self._services.settings.keep_days, self._database.now()
        limit = -1.0 if keep_days is None else now - keep_days * 86_400
        with self._database.read() as connection:
            rows = {row.id: row for row in batch_table.rows_in(connection, (*UNDER_WAY, *ENDED))}
        for folder in self._root.glob("batch_*"):
            files, row = BatchFiles(self._root, folder.name), rows.get(folder.name)
            age_s = now - folder.stat().st_mtime  # before the lock, whose file is in it
            try:
                with files.lock():
                    if row is None and age_s > _ORPHAN_S:
                        files.remove()
                    elif row is not None and row.changed_at < limit:
                        self._move(row.id, (*UNDER_WAY, *ENDED), BatchState.EXPIRED)
                        files.remove()
                    elif row is not None and row.state in ENDED:
                        files.remove_texts()
            except BlockingIOError:
                continue
