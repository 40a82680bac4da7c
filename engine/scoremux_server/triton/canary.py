"""The canary: a row sent as clients send theirs, which must get the same answer each time."""

import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from scoremux_client import BusyError, RejectedError, Response, Scored, Status, Transport, TransportError, rows
from scoremux_client.answer_columns import decode
from scoremux_client.audit_lines import CANARY_TEXT
from scoremux_client.rows import Columns
from scoremux_engine.errors import EngineError
from scoremux_engine.store.reader import StoreReader
from scoremux_files.digests import Stamp

_CANDIDATES = 64
_REMEMBERED = 256
_NO_TASK = "no-task-yet"
_NEAR = 0.02
"""How far probabilities may be from the first ones where no equal bits are promised.

Chosen by hand: no GPU was measured. A probability moves by at most half of what the logits move, so logits may move by
0.04 at least. Other kernels of one precision should move them by less, and a wrong product by far more.
"""


class CanaryVerdict(Enum):
    """The verdict of a canary about its server."""

    GOOD = "scored correctly"
    WRONG = "answered, but not scored correctly"
    REFUSED = "refused by the server"
    BUSY = "refused because too much waits"
    UNREACHED = "not answered"


@dataclass(frozen=True)
class Answer:
    """The outcome of one canary.

    Attributes:
        version: The task version that was scored, as `task@digest`.
        store_cause: Why the store could not be read when the canary was sent; tasks in memory are scored all the same.
    """

    verdict: CanaryVerdict
    cause: str = ""
    version: str = ""
    took_s: float = 0.0
    store_cause: str = ""

    @property
    def good(self) -> bool:
        return self.verdict is CanaryVerdict.GOOD


@dataclass
class _InFlight:
    """A canary that was sent. `answered_at` is set as soon as its answer comes, not when the answer is read."""

    responses: list[Response]
    future: Future[Columns]
    sent_at: float
    answered_at: float = 0.0

    def note_answer(self, _: Future[Columns]) -> None:
        self.answered_at = time.monotonic()


class Canary:
    """Sends one canary at a time to a server's gRPC endpoint.

    Any scored task proves the server: one damaged package must not count against it. The bits of a task version's
    answer are kept through every restart, those of the last `_REMEMBERED` versions.

    Args:
        exact: Whether equal bits are promised. Where they are not (GPUs, Triton's own backends), the level must be the
            same and the probabilities near the first ones since the last `forget`.
    """

    def __init__(self, url: str, store: Path, connect: Callable[[str], Transport], *, exact: bool = True) -> None:
        self._url = url
        self._store = StoreReader(store)
        self._stamp: Stamp | None = None
        self._connect = connect
        self._exact = exact
        self._transport: Transport | None = None
        self.backbone = ""  # digest of what the server has loaded; empty: that of the first manifest
        self._tasks: list[str] = []
        self._store_cause = ""
        self._task: str | None = None
        self._answers: dict[str, Scored] = {}  # by version
        self._in_flight: _InFlight | None = None

    @property
    def waiting_s(self) -> float:
        """Seconds since the canary in flight was sent; 0 without one."""
        return time.monotonic() - self._in_flight.sent_at if self._in_flight else 0.0

    def look_at_store(self) -> str:
        """Read the store's manifest if it changed; return why it cannot be read or followed, or nothing."""
        try:
            stamp = self._store.stamp()
            if stamp is not None and stamp == self._stamp:
                return self._store_cause
            manifest = self._store.manifest()
        except EngineError as error:
            self._stamp, self._store_cause = None, str(error)
            return self._store_cause
        self._stamp, self._store_cause = stamp, ""
        self.backbone = self.backbone or manifest.backbone
        if manifest.backbone == self.backbone:
            self._tasks = self._store.ids(manifest, _CANDIDATES)
        else:
            self._store_cause = (
                f"{self._store.folder} belongs to backbone {manifest.backbone[:12]}, but {self.backbone[:12]} is "
                "loaded: give the store of this backbone (--store), or publish its tasks again after an export"
            )
        return self._store_cause

    @property
    def _cause(self) -> str:
        return self._store_cause or self._store.unreachable

    def send(self) -> None:
        """Send a canary unless one is in flight."""
        if self._in_flight:
            return
        self._transport = self._transport or self._connect(self._url)
        self.look_at_store()
        if self._task not in self._tasks:
            self._task = None
        tasks = [self._task] if self._task else self._tasks[:_CANDIDATES] or [_NO_TASK]
        responses, sent_at = [Response(task, CANARY_TEXT) for task in tasks], time.monotonic()
        self._in_flight = _InFlight(responses, self._transport.submit(rows.encode(responses), None), sent_at)
        self._in_flight.future.add_done_callback(self._in_flight.note_answer)

    def answer(self, wait_s: float = 0.0, limit_s: float = math.inf) -> Answer | None:
        """Wait `wait_s` for the answer to the canary in flight, and return it; None while there is none.

        One that has no answer after `limit_s` is given up.
        """
        canary = self._in_flight
        if canary is None:
            return None
        try:
            columns = canary.future.result(wait_s)
        except NotYet:
            if self.waiting_s <= limit_s:
                return None
            self.forget()
            cause = f"a canary has no answer after {limit_s:g} s"
            return Answer(CanaryVerdict.UNREACHED, cause, store_cause=self._cause)
        except TransportError as error:
            self.forget()
            kinds = {RejectedError: CanaryVerdict.REFUSED, BusyError: CanaryVerdict.BUSY}
            verdict = next((v for kind, v in kinds.items() if isinstance(error, kind)), CanaryVerdict.UNREACHED)
            return Answer(verdict, str(error), store_cause=self._cause)
        self._in_flight = None
        # The callback may come a moment after the result.
        took_s = (canary.answered_at or time.monotonic()) - canary.sent_at
        try:
            answer = self._judge(decode(canary.responses, columns))
        except TransportError as error:
            answer = Answer(CanaryVerdict.WRONG, str(error))
        return replace(answer, took_s=took_s, store_cause=self._cause)

    def forget(self) -> None:
        """Drop the connection and what is in flight, before another server starts."""
        if self._transport:
            self._transport.close()
        self._transport, self._in_flight = None, None
        if not self._exact:
            self._answers.clear()

    def _agrees(self, before: Scored, now: Scored) -> bool:
        if self._exact:
            return before.probabilities == now.probabilities
        pairs = zip(before.probabilities, now.probabilities, strict=True)  # of one version, so of as many levels
        return before.level == now.level and all(abs(x - y) <= _NEAR for x, y in pairs)

    def _judge(self, scored: list[Scored]) -> Answer:
        first = next((s for s in scored if s.ok), None)
        if first is None:
            self._task = None
            statuses = {s.status for s in scored}
            if scored[0].task == _NO_TASK and statuses == {Status.UNKNOWN_TASK}:
                # What looks like an empty store may be one that could not be read.
                cause = self._store_cause
                return Answer(CanaryVerdict.REFUSED if cause else CanaryVerdict.GOOD, cause)
            if Status.CONDITION in statuses:  # the policy of every task has a code for a text as short as this one
                return Answer(CanaryVerdict.GOOD)
            return Answer(CanaryVerdict.WRONG, f"no canary was scored ({', '.join(sorted(statuses))})")
        self._task = first.task
        before = self._answers.pop(first.version, first)
        self._answers[first.version] = before  # the last used is the last to be forgotten
        if len(self._answers) > _REMEMBERED:
            del self._answers[next(iter(self._answers))]
        if not self._agrees(before, first):
            other = "other bits" if self._exact else "another level or other probabilities"
            cause = f"the canary of {first.task}@{first.version[:12]} has {other} than the first time"
            return Answer(CanaryVerdict.WRONG, cause)
        return Answer(CanaryVerdict.GOOD, version=f"{first.task}@{first.version}")
