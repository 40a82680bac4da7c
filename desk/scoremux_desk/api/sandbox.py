"""`--sandbox`: an API without a model, where ids choose the outcome, for a platform's own tests.

Every row gets level 1, but an id that begins with one of these words: `blank` (condition B), `routed` (to people),
`human` (to people, and five seconds later somebody gives it level 0), `corrected` (the same, and five seconds later
somebody else gives it level 1), `truncated`, `unknown` (the task does not exist). The first request with an id that
begins with `limited` or `busy` is answered 429 or 503.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from scoremux_client import NO_RETRIES, FakeTransport, Response, Scored, Status
from scoremux_client.contract import Reason
from scoremux_desk.api.callers import Caller
from scoremux_desk.api.problems import ApiProblem
from scoremux_desk.api.shapes import sendable
from scoremux_desk.api.triton_scorer import TritonScorer
from scoremux_desk.database import accounts, api_rows, reads
from scoremux_desk.database.connection import Database
from scoremux_desk.errors import ReviewError
from scoremux_desk.reading import human_decisions, settling
from scoremux_desk.reading.task_access import TaskAccess

TASKS: dict[str, list[float]] = {"sandbox-1": [0, 0.5, 1], "sandbox-2": [0, 1]}
HUMAN_S = 5.0
_HUMAN = "sandbox"
_SECOND = "sandbox-2"
_BY = "scoremux api --sandbox"
_CORRECTED = "corrected"
_Keys = list[tuple[str, str]]
"""Tasks and ids of rows."""
_REFUSED = {
    "limited": (429, "Too many requests", "the rate of this token is used up: send again later", 1),
    "busy": (503, "Server busy", "the scoring server's queue is full", 1),
}
"""How an id begins → the problem that the first request with it is answered with."""

_SURE, _UNSURE = (float(np.float32(confidence)) for confidence in (0.9, 0.55))
_NO_SCORE = {"level": -1, "score": None, "probabilities": (), "confidence": None, "level_range": None}
_OUTCOMES: dict[str, dict[str, Any]] = {
    "blank": {"status": Status.CONDITION, "condition": "B", **_NO_SCORE},
    "unknown": {"status": Status.UNKNOWN_TASK, "route": "", "version": "", **_NO_SCORE},
    "truncated": {"truncated": True, "route": Reason.TRUNCATED.route},
    "human": {"route": Reason.UNUSUAL.route},
    _CORRECTED: {"route": Reason.UNUSUAL.route},
    "routed": {"route": Reason.LOW_CONFIDENCE.route, "confidence": _UNSURE, "level_range": (0, 1)},
}
"""How an id begins → what differs from other rows."""


class SandboxScorer(TritonScorer):
    """Scores by ids, which go to a transport in place of texts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._refused = set[str]()
        self.transport = FakeTransport(TASKS, level=lambda _task, _name: 1)
        super().__init__([self.transport], NO_RETRIES)

    async def score(self, caller: Caller, responses: Sequence[Response]) -> list[Scored]:
        for name in (str(response.id) for response in responses):
            problem = next((problem for word, problem in _REFUSED.items() if name.startswith(word)), None)
            if problem and name not in self._refused:
                self._refused.add(name)
                raise ApiProblem(*problem)
        # A text that cannot be sent stays, and is refused as ever.
        named = [one if sendable(one.text) is None else replace(one, text=one.id or "") for one in responses]
        return self._outcomes(await super().score(caller, named))

    def _outcomes(self, rows: Iterable[Scored]) -> list[Scored]:
        """Return rows as their ids say, and have a human decide some of them soon."""
        self.transport.requests.clear()
        scored = [_outcome(row) for row in rows]
        if waiting := [(row.task, str(row.id)) for row in scored if row.route == Reason.UNUSUAL.route]:
            _later(self._decide, waiting)
        return scored

    def _decide(self, rows: _Keys, name: str = _HUMAN, level: int = 0) -> None:
        """Be the human who gives a level to the rows of some tasks and ids."""
        with suppress(ReviewError):  # there is one already
            accounts.add_person(self._database, name, "leader", None, _BY)
        with self._database.read() as connection:
            [account] = (account for account in accounts.listed(connection) if account.name == name)
            numbers = api_rows.numbers_of(connection, rows)
        for number in numbers:
            with self._database.write() as connection:
                waiting = reads.pending_read(connection, number)
                if waiting is None or waiting.state != "open":
                    continue
                access = TaskAccess(connection, account)
                shown_at = access.now - access.policy.guard_s - 1
                reads.lease(connection, [waiting.id], account.id, shown_at, access.policy.lease_s)
                if (read := reads.current_read(connection, account.id)) is not None:
                    human_decisions.decide(access, human_decisions.Rating(read.token, level=level))
        if name == _HUMAN and (wrong := [row for row in rows if row[1].startswith(_CORRECTED)]):
            _later(self._correct, wrong, account)

    def _correct(self, rows: _Keys, account: Any) -> None:
        """Be the leader who has rows read again, and the second human, who gives them level 1."""
        with self._database.write() as connection:
            access = TaskAccess(connection, account)
            for row in api_rows.numbers_of(connection, rows):
                settling.reopen(access, row, _BY)
        self._decide(rows, _SECOND, 1)


def _later(work: Callable[..., object], *arguments: object) -> None:
    human = threading.Timer(HUMAN_S, work, arguments)
    human.daemon = True
    human.start()


def _outcome(row: Scored) -> Scored:
    if not row.ok:
        return row
    sure = replace(row, confidence=_SURE, level_range=(1, 1))
    changes = next((changes for word, changes in _OUTCOMES.items() if str(row.id).startswith(word)), {})
    return replace(sure, **changes)
