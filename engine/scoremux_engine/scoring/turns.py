"""Turns: which parts are computed next, and what runs beside them."""

import itertools
from collections import deque
from collections.abc import Sequence

from scoremux_engine.errors import DroppedError
from scoremux_engine.scoring.micro_batches import most_rows
from scoremux_engine.scoring.row_request import RowRequest
from scoremux_engine.scoring.shares import Part, Shares

_MOST_CANDIDATES = 256
"""How many parts of one shape are looked at for one micro-batch."""

_SHORT_TOKENS = 512
"""Padded tokens of a micro-batch for which others should not wait long."""

_LONG_ROW = 256
"""Padded tokens of a row, such as an essay's window, that makes lone rows wait if every stream computes such rows."""

Dropped = list[tuple[RowRequest, DroppedError]]


class Turns:
    """The parts that wait, and how many micro-batches run. Not thread-safe: the scheduler's lock guards it.

    streams, overlap, budget_tokens: as for `Scheduler`.
    """

    def __init__(self, streams: int, overlap: int, budget_tokens: int) -> None:
        self.shares = Shares()
        self.running = 0
        self._running_large = 0
        self.running_alone = False
        self._running_express = False
        self._apart: deque[Part] = deque()  # of rows that may kill
        self._streams = streams
        self._overlap = overlap
        self._budget_tokens = budget_tokens

    def __len__(self) -> int:
        return len(self.shares) + len(self._apart)

    def arrive(self, request: RowRequest, parts: Sequence[Part], now: float) -> None:
        self._apart += (part for part in parts if part.alone)
        self.shares.arrive(request, [part for part in parts if not part.alone], now)

    def begin(self, lead: Part) -> None:
        self.running += 1
        self._running_large += not lead.request.small
        self.running_alone = lead.alone
        self.shares.begin(lead)

    def end(self, lead: Part) -> None:
        self.running -= 1
        self._running_large -= not lead.request.small
        self.running_alone = False
        self._running_express = self._running_express and not lead.express
        self.shares.end(lead)

    def next(self, now: float, dropped: Dropped) -> list[Part]:
        """Return the parts of the next micro-batch; none where nothing may begin now.

        A thread that ends a micro-batch asks again::

            a row that may kill runs ──────────────────────────→ none
            a row that may kill waits ── others run ───────────→ none
                                      └─ nothing runs ─────────→ that row
            all streams are taken ────── the lead is a lone row → that row, one at a time
                                      └─ it is not ────────────→ none
            one stream is left for lone rows, the lead has long ones → the first part with shorter rows, if any
            a stream is free ──────────────────────────────────→ the lead, with companions of its shape
        """
        if self.running_alone:
            return []
        parts = self._next_apart(now, dropped)
        if parts or self._apart:
            return parts
        free = self.running - self._running_express < self._overlap
        return self._next_batch(now, dropped) if free else self._next_express(now, dropped)

    def _next_apart(self, now: float, dropped: Dropped) -> list[Part]:
        while self._apart and not self.running:
            part = self._apart.popleft()
            if self._is_wanted(part, now, dropped):
                return [part]
        return []

    def _next_express(self, now: float, dropped: Dropped) -> list[Part]:
        while (lead := self.shares.lead(now)) and self.shares.is_express(lead) and not self._running_express:
            if self._is_wanted(lead, now, dropped):
                self._running_express = True
                lead = self.shares.take(lead, 1, now)
                lead.express = True
                return [lead]
            self.shares.remove(lead)
        return []

    def _next_batch(self, now: float, dropped: Dropped) -> list[Part]:
        while (lead := self._lead(now)) and not self._is_wanted(lead, now, dropped):
            self.shares.remove(lead)
        if lead is None:
            return []
        tokens, row, short = self.shares.tokens, lead.rows[0], self.shares.wants_short(lead, now)
        most = most_rows(row, min(self._budget_tokens, _SHORT_TOKENS) if short else self._budget_tokens)
        parts = [self.shares.take(lead, most, now)]
        idle = max(1, self._streams - self.running)
        room = min(most, tokens // idle // row.bucket) - len(parts[0].rows)
        # Parts of one request were split on purpose.
        for part in itertools.islice(self.shares.companions(lead), _MOST_CANDIDATES if room > 0 else 0):
            if len(part.rows) > room:
                continue
            if not self._is_wanted(part, now, dropped):
                self.shares.remove(part)
                continue
            parts.append(self.shares.take(part, room, now))
            room -= len(part.rows)
            if not room:
                break
        return parts

    def _lead(self, now: float) -> Part | None:
        """Return the part whose turn it is.

        While somebody sends lone rows, one stream is kept free of large requests with long rows: rows of less tokens
        may pass them.
        """
        lead = self.shares.lead(now)
        if lead is None or lead.request.small or lead.request.terms.batch or lead.rows[0].bucket < _LONG_ROW:
            return lead
        last = self._running_large >= self._overlap - 1 > 0
        return self.shares.first_below(_LONG_ROW) if last and self.shares.senders(now) else lead

    def _is_wanted(self, part: Part, now: float, dropped: Dropped) -> bool:
        """Whether the rest of a part's request is still to be computed."""
        if part.request.finished.is_set():
            return False
        if reason := part.request.reason_to_drop(now):
            dropped.append((part.request, reason))
        return reason is None
