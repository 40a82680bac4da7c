"""`--sandbox`: an API without a model, where ids choose the outcome, for a platform's own tests.

Every row gets level 1, but an id that begins with one of these words: `blank` (condition B), `routed` (to people),
`human` (to people, and five seconds later somebody gives it level 0), `corrected` (the same, and five seconds later
somebody else gives it level 1), `truncated`, `unknown` (the task does not exist). The first request with an id that
begins with `limited` or `busy` is answered 429 or 503.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from sqlalchemy import select, tuple_

from scoremux_api.callers import Caller
from scoremux_api.problems import ApiProblem
from scoremux_api.triton_scorer import TritonScorer
from scoremux_client import NO_RETRIES, Response, Scored, ScoringClient
from scoremux_client.contract import NO_CONFIDENCE, NO_LEVEL, NO_RANGE, NO_SCORE, Reason
from scoremux_client.rows import is_text
from scoremux_client.testing import FakeTransport
from scoremux_review.database import accounts, reads, schema
from scoremux_review.database.connection import Database
from scoremux_review.database.schema import api_rows
from scoremux_review.errors import ReviewError
from scoremux_review.reading import human_decisions, settling
from scoremux_review.reading.task_access import Reader, TaskAccess

TASKS: dict[str, list[float]] = {"sandbox-1": [0, 0.5, 1], "sandbox-2": [0, 1]}
HUMAN_S = 5.0
_HUMAN, _SECOND, _BY = "sandbox", "sandbox-2", "scoremux api --sandbox"
_CORRECTED = "corrected"
_REFUSED = {
    "limited": (429, "Too many requests", "the rate of this token is used up: send again later", 1),
    "busy": (503, "Server busy", "the scoring server's queue is full", 1),
}
"""How an id begins → the problem that the first request with it is answered with."""

_NO_SCORE = {
    "LEVEL": NO_LEVEL, "SCORE": NO_SCORE, "PROBABILITIES": 0, "CONFIDENCE": NO_CONFIDENCE, "LEVEL_RANGE": NO_RANGE,
}  # fmt: skip
_OUTCOMES: dict[bytes, dict[str, Any]] = {
    b"blank": {"STATUS": b"CONDITION", "CONDITION": b"B", **_NO_SCORE},
    b"unknown": {"STATUS": b"UNKNOWN_TASK", "ROUTE": b"", "VERSION": b"", **_NO_SCORE},
    b"truncated": {"TRUNCATED": True, "ROUTE": Reason.TRUNCATED.route.encode()},
    b"human": {"ROUTE": Reason.UNUSUAL.route.encode()},
    _CORRECTED.encode(): {"ROUTE": Reason.UNUSUAL.route.encode()},
    b"routed": {"ROUTE": Reason.LOW_CONFIDENCE.route.encode(), "CONFIDENCE": 0.55, "LEVEL_RANGE": (0, 1)},
}
"""How an id begins → the columns that differ from those of other rows."""


class SandboxTransport(FakeTransport):
    """Takes ids in place of texts, and answers as they say."""

    def __init__(self, database: Database) -> None:
        super().__init__(TASKS, level=lambda _task, _name: 1)
        self._database = database

    def _columns(self, responses: list[Response]) -> dict[str, Any]:
        self.requests.clear()
        self.timeouts_s.clear()
        columns = super()._columns(responses)
        for row, response in enumerate(responses):
            name = bytes(response.text or b"")  # type: ignore[arg-type]
            if columns["STATUS"][row, 0] == b"OK":
                columns["CONFIDENCE"][row], columns["LEVEL_RANGE"][row] = 0.9, (1, 1)
                for column, value in next((o for word, o in _OUTCOMES.items() if name.startswith(word)), {}).items():
                    columns[column][row] = value
        unusual = (columns["ROUTE"][:, 0] == _OUTCOMES[b"human"]["ROUTE"]).nonzero()[0]
        if rows := [(str(responses[n].task), bytes(responses[n].text or b"").decode()) for n in unusual]:
            _later(self._decide, rows)
        return columns

    def _decide(self, rows: list[tuple[str, str]], name: str = _HUMAN, level: int = 0) -> None:
        """Be the human who gives a level to the rows of some tasks and ids."""
        with suppress(ReviewError):  # there is one already
            accounts.add_person(self._database, name, "leader", None, _BY)
        with self._database.read() as connection:
            [account] = (account for account in accounts.listed(connection) if account.name == name)
            mine = tuple_(api_rows.c.task, api_rows.c.name).in_(rows) & (schema.reads.c.state == "open")
            joined = schema.reads.join(api_rows, api_rows.c.row == schema.reads.c.row)
            waiting = connection.scalars(select(schema.reads.c.id).select_from(joined).where(mine)).all()
        for number in waiting:
            with self._database.write() as connection:
                access = TaskAccess(connection, Reader.of(account), self._database.now())
                shown_at = access.now - access.policy.guard_s - 1
                reads.lease(connection, [number], account.id, shown_at, access.policy.lease_s)
                if (read := reads.current_read(connection, account.id)) is not None:
                    human_decisions.decide(access, human_decisions.Rating(read.token, level=level))
        if name == _HUMAN and (wrong := [row for row in rows if row[1].startswith(_CORRECTED)]):
            _later(self._correct, wrong, account)

    def _correct(self, rows: list[tuple[str, str]], account: Any) -> None:
        """Be the leader who has rows read again, and the second human, who gives them level 1."""
        with self._database.write() as connection:
            access = TaskAccess(connection, Reader.of(account), self._database.now())
            mine = select(api_rows.c.row).where(tuple_(api_rows.c.task, api_rows.c.name).in_(rows))
            for row in connection.scalars(mine).all():
                settling.reopen(access, row, _BY)
        self._decide(rows, _SECOND, 1)


def _later(work: Callable[..., object], *arguments: object) -> None:
    human = threading.Timer(HUMAN_S, work, arguments)
    human.daemon = True
    human.start()


class SandboxScorer(TritonScorer):
    """Scores by ids."""

    def __init__(self, database: Database) -> None:
        self.transport, self._refused = SandboxTransport(database), set[str]()
        super().__init__([self.transport], NO_RETRIES)

    async def score(self, caller: Caller, responses: Sequence[Response]) -> list[Scored]:
        for name in (str(response.id) for response in responses):
            problem = next((problem for word, problem in _REFUSED.items() if name.startswith(word)), None)
            if problem and name not in self._refused:
                self._refused.add(name)
                raise ApiProblem(*problem)
        return await super().score(caller, [_by_id(response) for response in responses])

    def batch_client(self, grant: str | None) -> ScoringClient:  # noqa: ARG002
        return _BatchClient(self.transport, retries=NO_RETRIES)


class _BatchClient(ScoringClient):
    def score_iter(self, responses: Iterable[Response], *, deadline_s: float | None = None) -> Iterator[Scored]:
        return super().score_iter(map(_by_id, responses), deadline_s=deadline_s)


def _by_id(response: Response) -> Response:
    return replace(response, text=response.id or "") if is_text(response.text) else response
