"""Whose rows are next: fair queueing between tenants, by virtual time.

A tenant's rows are one share, and those of its batch jobs another of less weight. Each share has a virtual time, which
grows by the padded tokens that are computed of it over its weight; next is the part that would leave its share with the
least. A share that begins to wait starts at the least time of those that wait already, so what a tenant did not use
before is not owed to it. Work is divided as by deficit round robin, but a tenant that sends little waits for no round:
a small part is next beside any others. Every second turn is a short micro-batch of the share that got nothing for
longest, if that is more than `_PATIENCE_S`: no share starves, whatever the weights are.
"""

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from scoremux_engine.scoring.permission import WATCHER
from scoremux_engine.scoring.row_plan import PlannedRow
from scoremux_engine.scoring.row_request import RowRequest, Tenant, Terms

_BATCH_WEIGHT = 1 / 16
"""What a batch job's tokens weigh beside other tokens of its tenant, where both wait."""

_PATIENCE_S, _PATIENCE_TURNS = 2.0, 8
"""A waiting share is overdue after this long without a turn while others had this many, or after twice as long."""

_SMALL_S = 10.0
"""A share wants short micro-batches beside it for this long after its last small request."""


@dataclass(eq=False)
class Part:
    """Rows of one request that are computed together, perhaps with those of others.

    A part that may kill the process is computed `alone`, with nothing beside it.
    """

    request: RowRequest
    rows: Sequence[PlannedRow]
    alone: bool = False
    taken: bool = False
    express: bool = False

    @property
    def tokens(self) -> int:
        """Padded tokens."""
        return self.rows[0].bucket * len(self.rows)


@dataclass(eq=False)
class _Share:
    """The parts of one tenant that wait. time: virtual; short: micro-batches of small requests that run; small_at: when
    its last small request came; turn_at, turn: when it had its last turn, or began to wait."""

    tenant: Tenant
    batch: bool
    short: int = 0
    time: float = 0.0
    parts: list[tuple[float, int, Part]] = field(default_factory=list)
    waiting: int = 0
    small_at: float = -math.inf
    turn_at: float = 0.0
    turn: int = 0

    @property
    def weight(self) -> float:
        return self.tenant.weight * (_BATCH_WEIGHT if self.batch else 1.0)

    @property
    def first(self) -> Part:
        """The part that is next within the share, which has one."""
        while self.parts[0][2].taken:
            heapq.heappop(self.parts)
        return self.parts[0][2]

    def remove(self, part: Part) -> None:
        """Count a part as taken, and let go of taken parts: each holds its request."""
        part.taken = True
        self.waiting -= 1
        if len(self.parts) > 2 * self.waiting:
            self.parts = [entry for entry in self.parts if not entry[2].taken]
            heapq.heapify(self.parts)

    def is_idle(self, now: float, time: float) -> bool:
        """Whether a new share would be treated alike at this virtual time."""
        return not (self.waiting or self.short or self.sends_small(now)) and self.time <= time

    def sends_small(self, now: float) -> bool:
        """Whether its small requests should be answered soon; the watcher's canary can wait."""
        return now - self.small_at < _SMALL_S and not self.batch and self.tenant.name != WATCHER

    def is_overdue(self, now: float, turn: int) -> bool:
        waited_s, turns = now - self.turn_at, turn - self.turn
        enough = turns >= _PATIENCE_TURNS or waited_s > 2 * _PATIENCE_S
        return turn % 2 > 0 and waited_s > _PATIENCE_S and enough


class Shares:
    """The parts that wait, by tenant. Not thread-safe: the scheduler's lock guards it."""

    def __init__(self) -> None:
        self.tokens = 0
        self.computed: Counter[str] = Counter()
        self._shares: dict[tuple[str, bool], _Share] = {}
        self._by_shape: dict[object, dict[Part, None]] = {}
        self._numbers = itertools.count()
        self._time, self._turn = 0.0, 0
        self._large = 0  # parts of large requests that wait

    def __len__(self) -> int:
        return sum(share.waiting for share in self._shares.values())

    def arrive(self, request: RowRequest, parts: Sequence[Part], now: float) -> None:
        if (request.terms.tenant.name, request.terms.batch) not in self._shares:
            self._forget_idle(now)
        share = self._of(request)
        share.tenant = request.terms.tenant
        if request.small:
            share.small_at = now
        if not share.waiting:
            share.time, share.turn_at, share.turn = max(share.time, self._time), now, self._turn
        for part in parts:
            heapq.heappush(share.parts, (request.rank, next(self._numbers), part))
            share.waiting += 1
            self.tokens += part.tokens
            self._large += not request.small
            self._by_shape.setdefault(part.rows[0].shape, {})[part] = None

    def lead(self, now: float) -> Part | None:
        """Return the part whose turn it is; None where none waits."""
        waiting = [share for share in self._shares.values() if share.waiting]
        if not waiting:
            return None
        self._time = min(share.time for share in waiting)
        if overdue := [share for share in waiting if share.is_overdue(now, self._turn)]:
            return min(overdue, key=lambda share: share.turn_at).first
        share = min(waiting, key=lambda share: (share.time + share.first.tokens / share.weight, share.parts[0][:2]))
        return share.first

    def first_below(self, bucket: int) -> Part | None:
        """Return the part of shorter rows that should be answered first; None where there is no such part."""
        firsts = (next(iter(parts)) for parts in self._by_shape.values())
        shorter = (part for part in firsts if part.rows[0].bucket < bucket)
        return min(shorter, key=lambda part: part.request.rank, default=None)

    def companions(self, lead: Part) -> Iterator[Part]:
        """Yield parts of other requests with the lead's shape that may share its micro-batch, first come first.

        A small request is joined by small ones only, and a batch job's rows join batch jobs only: others would wait.
        """
        for part in list(self._by_shape.get(lead.rows[0].shape, ())):
            share = self._of(part.request)
            slower = (lead.request.small and not part.request.small) or (share.batch and not lead.request.terms.batch)
            if part.request is not lead.request and not slower:
                yield part

    def take(self, part: Part, rows: int, now: float) -> Part:
        """Return the first rows of a part, `rows` at most; the others wait on."""
        share = self._of(part.request)
        taken = part
        if rows < len(part.rows):
            taken = Part(part.request, part.rows[:rows])
            part.rows = part.rows[rows:]
            self.tokens -= taken.tokens
        else:
            self.remove(part)
        share.time += taken.tokens / share.weight
        share.turn_at, share.turn = now, self._turn
        self.computed[share.tenant.name] += taken.tokens
        if not self.tokens:  # no share waits, so none has had more than its part of what others wanted
            self._time = max(share.time for share in self._shares.values())
        return taken

    def begin(self, lead: Part) -> None:
        """Note that a micro-batch is computed."""
        self._turn += 1
        self._of(lead.request).short += lead.request.small

    def end(self, lead: Part) -> None:
        """Note that it is computed no more."""
        self._of(lead.request).short -= lead.request.small

    def is_express(self, part: Part) -> bool:
        """Whether a part is a lone row whose share computes no others: it need not wait for a stream."""
        return len(part.rows) == 1 and part.request.small and not self._of(part.request).short

    def remove(self, part: Part) -> None:
        """Remove a part that will not be computed."""
        self._of(part.request).remove(part)
        self.tokens -= part.tokens
        self._large -= not part.request.small
        shape = part.rows[0].shape
        del self._by_shape[shape][part]
        if not self._by_shape[shape]:
            del self._by_shape[shape]

    def wants_express(self, arrival: Terms | None) -> bool:
        """Whether a lone row waits, or arrives, that need not wait for a stream."""
        if arrival and not ((share := self._shares.get((arrival.tenant.name, arrival.batch))) and share.short):
            return True
        return any(share.waiting and not share.short for share in self._shares.values())

    def senders(self, now: float) -> int:
        """Return how many shares send small requests."""
        return sum(share.sends_small(now) for share in self._shares.values())

    def wants_short(self, lead: Part, now: float) -> bool:
        """Whether a long micro-batch would make others wait too long.

        Another share sends small requests, or the lead's share is next only since it has waited long.
        """
        senders = self.senders(now)
        return senders > 1 or (senders > 0 and self._large > 0) or self._of(lead.request).is_overdue(now, self._turn)

    def _forget_idle(self, now: float) -> None:
        """Forget the shares that new ones would equal."""
        self._shares = {key: share for key, share in self._shares.items() if not share.is_idle(now, self._time)}

    def _of(self, request: RowRequest) -> _Share:
        tenant, batch = request.terms.tenant, request.terms.batch
        share = self._shares.get((tenant.name, batch))
        if share is None:
            share = self._shares[tenant.name, batch] = _Share(tenant, batch)
        return share
