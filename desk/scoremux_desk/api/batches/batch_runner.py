"""Computes batches in the background, and removes those that are too old.

A batch runs in turns of some minutes, each with a fresh grant. It gives way after a part where a batch of another token
waits, so that no token waits for another's whole batch. Several processes may share a folder and a database: a batch's
lock says who computes it, and a process that was killed has let go of it.
"""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from scoremux_client import Response, Scored, TransportError
from scoremux_desk.api.batches import batch_table
from scoremux_desk.api.batches.batch_files import HALF, LAYOUT, BatchFiles
from scoremux_desk.api.batches.batch_table import ENDED, UNDER_WAY, BatchState, RequestCounts
from scoremux_desk.api.callers import Caller
from scoremux_desk.api.problems import ApiProblem
from scoremux_desk.api.rows.live_intake import ScoredArrival
from scoremux_desk.api.services import Services
from scoremux_desk.erasure import expire
from scoremux_desk.errors import DatabaseError
from scoremux_files import InputError, first_of

_TURN_S = 300.0
_LOOK_S = 1.0
_TIDY_S = 3600.0
_STOP_S = 5.0
_ORPHAN_S = 86_400.0
KEPT_DAYS = 90
"""For batches, stored answers and what was delivered, without --keep-days; rows on the desk then stay."""
_PASSING = (TransportError, DatabaseError, OSError)
"""What does not end a batch: it is computed later."""
_TAKEN = "the desk has a row of this id with another text; give a new id"  # an id would outlive its erasure
_LOST = "files_lost", "the files of the batch are gone; send its rows again"

log = logging.getLogger(__name__)


class _TurnOverError(Exception):
    """The batch goes on in another turn, or has ended."""


class BatchRunner:
    """Runs batches one at a time: the oldest of each token, in turn."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._database = services.database
        self._root = services.folder
        self._others_wait = False
        self._stopping = threading.Event()
        self._changed = services.batches_changed

    @contextmanager
    def started(self) -> Iterator[None]:
        """Run batches inside the block, also those that an earlier process left; the next process resumes the rest."""
        thread = threading.Thread(target=self._run, name="batches", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            self._changed.set()
            thread.join(_STOP_S)

    def _run(self) -> None:
        tidied_at = -_TIDY_S
        while not self._stopping.is_set():
            self._changed.clear()
            went_on = False
            try:
                went_on = self._take_turns()
                if time.monotonic() - tidied_at > _TIDY_S:
                    tidied_at = time.monotonic()
                    self._tidy()
            except Exception as error:
                log.warning("batches wait: %s", error, exc_info=not isinstance(error, _PASSING))
            if not went_on:
                self._changed.wait(_LOOK_S)

    def _take_turns(self) -> bool:
        """Give a turn to the oldest batch of each token and to each cancelled one; return whether one went on."""
        with self._database.read() as connection:
            under_way = batch_table.rows_in(connection, UNDER_WAY)
        here = [row for row in under_way if BatchFiles(self._root, row.id).folder.exists()]
        oldest = {row.token: row.id for row in reversed(here) if row.state != "cancelling"}
        turns = [row for row in here if row.state == "cancelling" or row.id == oldest[row.token]]
        self._others_wait = len(turns) > 1
        went_on = [self._turn(row.id) for row in turns if not self._stopping.is_set()]
        return any(went_on)

    def _turn(self, batch: str) -> bool:
        """Bring a batch as far as it gets in this turn; return False where it waits, or another process computes it."""
        files = BatchFiles(self._root, batch)
        steps: dict[str, Callable[[str, BatchFiles], None]] = {
            "validating": self._validate,
            "in_progress": self._score,
            "finalizing": partial(self._end, "completed"),
            "cancelling": partial(self._end, "cancelled"),
        }
        try:
            with files.lock():
                while step := steps.get(self._state(batch)):
                    step(batch, files)
        except _TurnOverError:
            pass
        except BlockingIOError:
            return False
        except Exception as error:
            with suppress(DatabaseError, InputError):  # it fails again in the next turn
                if files.folder.exists() and not files.body.exists():
                    self._end_without_texts(batch, files)
                elif (errors := _failure(batch, error)) is not None:
                    self._end("failed", batch, files, errors=errors)
                else:
                    return False
        return True

    def _end_without_texts(self, batch: str, files: BatchFiles) -> None:
        """End a batch whose texts are gone. A database that was restored does not know that it has ended before."""
        state = files.job.state()
        if not state.source:
            return self._end("failed", batch, files, errors=_errors(*_LOST))
        failed = state.rejected + files.count_refused()
        counts = RequestCounts(total=state.rows + failed, completed=state.rows, failed=failed)
        return self._end("completed", batch, files, counts=counts.model_dump_json())

    def _state(self, batch: str) -> str:
        with self._database.read() as connection:
            return str(batch_table.row_of(connection, batch).state)

    def _validate(self, batch: str, files: BatchFiles) -> None:
        total, failed = files.validate()
        counts = RequestCounts(total=total, failed=failed).model_dump_json()
        if total > failed:
            self._move(batch, ("validating",), "in_progress", counts=counts)
        else:
            errors = _errors("no_rows", f"none of {total:,} lines is a row; see the errors")
            self._end("failed", batch, files, counts=counts, errors=errors)

    def _score(self, batch: str, files: BatchFiles) -> None:
        """Score a batch until it is done, or the turn is over."""
        with self._database.read() as connection:
            row = batch_table.row_of(connection, batch)
        ends_at = time.monotonic() + _TURN_S
        refused = files.count_refused()
        client = self._services.scorer.batch_client(self._services.callers.grant_of(row))

        def count(done: int, rejected: int) -> None:
            with self._database.write() as connection:
                batch_table.count(connection, batch, completed=done, failed=refused + rejected)

        def check() -> None:
            if self._stopping.is_set() or self._state(batch) != "in_progress":
                raise _TurnOverError

        is_done = files.job.score(
            files.rows,
            LAYOUT,
            client,
            refuse=partial(self._commit, row),
            count=count,
            check=check,
            is_over=lambda: self._others_wait or self._changed.is_set() or time.monotonic() > ends_at,
        )
        if not is_done:
            raise _TurnOverError
        self._move(batch, ("in_progress",), "finalizing")

    def _commit(
        self, batch: Any, texts: Sequence[Any], origins: Sequence[Sequence[str | None]], scored: Sequence[Scored]
    ) -> Mapping[int, str]:
        """Commit the rows of a part that people read, before anybody sees the part's outcomes.

        Return the places of rows that the desk has with another text, and why they are rejected.
        """
        self._services.callers.grant_of(batch, [outcome.task for outcome in scored])
        sent = [None if text == HALF else str(text) for text in texts]
        rows = [Response(outcome.task, text) for outcome, text in zip(scored, sent, strict=True)]
        alerts = asyncio.run(self._services.alerts(Caller(batch.token, ()), rows))
        arrivals = [
            ScoredArrival(text, outcome, alert, *(cell or "" for cell in origin))
            for text, outcome, alert, origin in zip(sent, scored, alerts, origins, strict=True)
        ]
        taken = self._services.intake.commit_now(batch.token, arrivals, partly=True)
        return dict.fromkeys(sorted(taken), _TAKEN)

    def _end(self, state: BatchState, batch: str, files: BatchFiles, **values: str) -> None:
        self._move(batch, UNDER_WAY, state, size=files.kept_bytes(), **values)
        files.remove_texts()

    def _move(self, batch: str, before: Sequence[BatchState], after: BatchState, **values: Any) -> None:
        with self._database.write() as connection:
            batch_table.move(connection, batch, before, after, **values)

    def _tidy(self) -> None:
        """Remove rows, answers and batches that are too old, texts of ended batches, and folders without a batch."""
        keep_days = self._services.keep_days or KEPT_DAYS
        now = self._database.now()
        limit = now - keep_days * 86_400
        with_rows = self._services.keep_days is not None
        erased = expire(self._database, limit, f"scoremux api --keep-days {keep_days}", with_rows=with_rows)
        if any(erased):
            log.warning("erased %d rows, %d answers and deliveries: older than %d days", *erased, keep_days)
        with self._database.read() as connection:
            rows = {row.id: row for row in batch_table.rows_in(connection, (*UNDER_WAY, *ENDED))}
        for old in (row for row in rows.values() if row.changed_at < now - _ORPHAN_S):
            if not BatchFiles(self._root, old.id).folder.exists():
                self._move(old.id, ("validating",), "failed", errors=_errors(*_LOST))
        unknown: list[str] = []
        for folder in self._root.glob("batch_*"):
            files = BatchFiles(self._root, folder.name)
            row = rows.get(folder.name)
            if row is not None and row.changed_at >= limit and not files.body.exists():
                continue  # it ended, and was tidied
            with suppress(BlockingIOError, FileNotFoundError):  # a request may have removed its folder meanwhile
                at = folder.stat().st_mtime  # before the lock, whose file is in it
                with files.lock():
                    if row is not None and row.changed_at < limit:
                        self._move(row.id, (*UNDER_WAY, *ENDED), "expired")
                        files.remove(f"older than {keep_days} days")
                    elif row is not None and row.state in ENDED:
                        files.remove_texts()
                    elif row is None and files.refused.exists():
                        unknown.append(folder.name)
                    elif row is None and at < now - _ORPHAN_S:
                        files.remove("an upload that did not end")
        if unknown:
            log.warning("kept folders of batches that the database does not have: %s", first_of(sorted(unknown)))


def _failure(batch: str, error: Exception) -> str | None:
    """Return the errors of a batch that ends with one; None where the batch is computed later."""
    if isinstance(error, ApiProblem) and error.retry_after is None:
        return _errors(error.title.lower().replace(" ", "_"), error.detail)
    if isinstance(error, (*_PASSING, ApiProblem)) or isinstance(error.__cause__, OSError):
        log.warning("the batch %s waits: %s", batch, error)
        return None
    log.error("the batch %s failed", batch, exc_info=error)
    return _errors("internal_error", "the API failed; its log says why")


def _errors(code: str, message: str) -> str:
    return json.dumps([{"code": code, "message": message}])
