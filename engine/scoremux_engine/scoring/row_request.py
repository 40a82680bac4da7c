"""A request on its way: its rows, until when its answer is of use, and what was computed of it."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from scoremux_engine.bank.bank import BatchVersions
from scoremux_engine.errors import DroppedError
from scoremux_engine.runners.runner import Outputs
from scoremux_engine.scoring.observer import BatchTrace, Columns
from scoremux_engine.scoring.row_plan import PlannedRow, RowPlan, RowTexts

_SECONDS_A_TOKEN = 1 / 4096
"""A request waits for smaller ones that come later no longer than its own tokens take at this rate."""

_SMALL_TOKENS = 256
"""Requests of at most this many padded tokens are small, as lone rows are: people may wait for them."""

_ASK_EVERY_S, _ASK_SMALL_EVERY_S = 0.05, 1.0
"""How often Triton is asked whether a request was cancelled: its answer takes as long as computing some tokens."""


@dataclass(frozen=True)
class Tenant:
    """The client that rows are computed for: a token of the front door, or all clients together.

    Attributes:
        name: The token's name; empty without a front door.
        weight: How much of the work is this tenant's, beside the weights of others that wait too.
    """

    name: str = ""
    weight: int = 1


EVERYBODY = Tenant()


@dataclass(frozen=True)
class Terms:
    """When a request's answer is of use, and whose share of the work it takes.

    Attributes:
        deadline: When the answer is of no use any more, on the clock `time.monotonic`.
        batch: Whether the request is part of a batch job, which takes the rest.
    """

    is_cancelled: Callable[[], bool] = lambda: False
    deadline: float = math.inf
    batch: bool = False
    tenant: Tenant = EVERYBODY


ANY_TERMS = Terms()


@dataclass(frozen=True)
class Arrival:
    """A request that is not planned yet.

    Attributes:
        pooled: Whether the vectors of all rows are wanted.
        done: Called once, from any thread, with the answer or an error; None where a thread waits for the rows.
        at: When the request came, on the same clock.
    """

    rows: RowTexts
    terms: Terms = ANY_TERMS
    pooled: bool = False
    done: Callable[[Columns | Exception], None] | None = None
    at: float = field(default_factory=time.monotonic)


@dataclass(eq=False)
class RowRequest:
    """The rows of one request on their way through the scheduler.

    Attributes:
        versions: The versions of the rows; they stay in memory until they are given back.
        out: NaN in rows that are not computed; filled in place; has parts after the rows (`RowPlan.merged`).
        rows_left: How many rows and parts are not computed yet.
        trace: Gets the time and the shapes of the micro-batches that this request leads.
    """

    arrival: Arrival
    plan: RowPlan
    versions: BatchVersions
    out: Outputs
    trace: BatchTrace
    error: Exception | None = None
    asked_at: float = field(init=False)
    rows_left: int = field(init=False)
    tokens: int = field(init=False)
    finished: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.rows_left = len(self.plan.computed)
        self.tokens = sum(row.bucket for row in self.plan.computed)
        self.asked_at = self.arrival.at
        self.trace.batch = self.terms.batch

    @property
    def terms(self) -> Terms:
        return self.arrival.terms

    @property
    def rank(self) -> float:
        """When its turn comes at the latest if all others of its share are smaller: the least rank is computed next."""
        return min(self.arrival.at + self.tokens * _SECONDS_A_TOKEN, self.terms.deadline)

    @property
    def small(self) -> bool:
        """Whether the request should not wait for large ones."""
        return (self.tokens <= _SMALL_TOKENS or len(self.plan.computed) == 1) and not self.terms.batch

    def reason_to_drop(self, now: float) -> DroppedError | None:
        """Return why the rest of the request need not be computed, or None."""
        if now >= self.terms.deadline:
            return DroppedError("late", "the deadline of the request passed before its rows were computed")
        if now - self.asked_at < (_ASK_SMALL_EVERY_S if self.small else _ASK_EVERY_S):
            return None
        self.asked_at = now
        return DroppedError("cancelled", "the request was cancelled") if self.terms.is_cancelled() else None

    def place(self, rows: Sequence[PlannedRow], out: Outputs, first: int) -> None:
        """Put the outputs of a micro-batch, from its row `first` on, where the request's rows belong."""
        for number, row in enumerate(rows, first):
            width = row.version.outputs
            self.out.logits[row.place, :width] = out.logits[number, :width]
            if self.out.pooled is not None and out.pooled is not None:
                self.out.pooled[row.place] = out.pooled[number]
