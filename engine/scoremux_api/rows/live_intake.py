"""Rows that people read are committed to the desk's database before their answer is sent.

One thread writes. Requests that come while it commits are committed together, in its next transaction.
"""

from __future__ import annotations

import asyncio
import threading
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from scoremux_api.callers import Caller
from scoremux_api.problems import ApiProblem
from scoremux_api.scorer import TritonScorer
from scoremux_cli.batch.people import Alert, ReadBehind
from scoremux_client.contract import NOBODY_CAN
from scoremux_client.errors import InputError
from scoremux_client.frames import columns_of
from scoremux_client.rows import Response, Scored
from scoremux_files.errors import first_of
from scoremux_review.database import api_rows, programme, responses
from scoremux_review.database.connection import Connection, Database
from scoremux_review.errors import DatabaseError
from scoremux_review.reading import alerts, intake
from scoremux_review.reading.response_texts import Origin

_BY = "scoremux api"
_MOST_REQUESTS = 256
_PATIENCE_S = 10.0
_UPDATE_S = 60

_Key = tuple[str, str]


class ScoredArrival(NamedTuple):
    """A scored row; alert: what `Alert.describe` says of it."""

    id: str
    task: str
    text: str | None
    scored: Scored
    alert: Mapping[str, Any] | None = None

    @property
    def key(self) -> _Key:
        """Task and id, which name a row among those of its token."""
        return self.task.partition("@")[0], self.id


class RowConflictError(ApiProblem):
    """Rows have another text than before. Nothing of the request was stored."""

    def __init__(self, arrivals: Sequence[ScoredArrival]) -> None:
        names = first_of([arrival.id for arrival in arrivals])
        super().__init__(409, "Row exists", f"rows with another text have these ids: {names}; give new ids")
        self.arrivals = arrivals


@dataclass(eq=False)
class _Waiting:
    token: str
    arrivals: Sequence[ScoredArrival]
    done: Future[None] = field(default_factory=Future)


async def describe_alerts(
    scorer: TritonScorer, alert: Alert | None, caller: Caller, rows: Sequence[Response]
) -> Sequence[Mapping[str, Any] | None]:
    """Score rows for the alert task, too; return what is said of each that is an alert, None of the others.

    Raises ApiProblem where the alert task cannot be scored, TransportError as the scorer does.
    """
    if alert is None:
        return [None] * len(rows)
    outcomes = await scorer.score(caller, [Response(alert.task, row.text) for row in rows])
    try:
        described = [alert.describe(outcome) for outcome in outcomes]
    except InputError as error:
        raise ApiProblem(503, "Alerts unavailable", str(error), _UPDATE_S) from None
    return [None if row.text is None else said for row, said in zip(rows, described, strict=True)]


class LiveIntake:
    """Commits rows that people read; rows that the machine decides are not stored."""

    def __init__(
        self,
        database: Database,
        read_behind: ReadBehind | None = None,
        points_of: Callable[[str, str], Sequence[float]] = lambda *_: (),
    ) -> None:
        """Take the database, and what returns the points of a token's task: a new version has each asked for once."""
        self._database, self._read_behind, self._points_of = database, read_behind, points_of
        self._versions = set[tuple[str, str]]()  # task and version whose points the desk has
        self._changed, self._waiting, self._stopping = threading.Condition(), list[_Waiting](), False

    @contextmanager
    def started(self) -> Iterator[None]:
        """Commit inside the block. At its end, what waits is committed first."""
        thread = threading.Thread(target=self._run, name="intake", daemon=True)
        thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._stopping = True
                self._changed.notify()
            thread.join(_PATIENCE_S)

    def add(self, token: str, arrivals: Sequence[ScoredArrival]) -> Future[None]:
        """Have the rows committed that people read; a row that is there already stays as it is.

        The future raises RowConflictError where one is there with another text, DatabaseError, and ApiProblem where the
        desk knows a task with fewer levels.
        """
        waiting = _Waiting(token, arrivals)
        with self._changed:
            self._waiting.append(waiting)
            self._changed.notify()
        return waiting.done

    async def commit(self, token: str, arrivals: Sequence[ScoredArrival]) -> None:
        """Return when the rows are committed. Raises as the future of `add`, and DatabaseError if it takes too long."""
        try:
            await asyncio.wait_for(asyncio.wrap_future(self.add(token, arrivals)), _PATIENCE_S)
        except asyncio.TimeoutError:
            raise DatabaseError("the database is busy; the rows may be stored later") from None

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                group, self._waiting = self._waiting[:_MOST_REQUESTS], self._waiting[_MOST_REQUESTS:]
            if not group:
                return
            # A request that nobody waits for any more is dropped.
            self._finish([waiting for waiting in group if waiting.done.set_running_or_notify_cancel()])

    def _finish(self, group: list[_Waiting]) -> None:
        try:
            conflicts = self._commit(group)
        except Exception as error:
            if len(group) > 1 and not isinstance(error, DatabaseError):  # of one request, not of its neighbours
                for waiting in group:
                    self._finish([waiting])
                return
            conflicts = dict.fromkeys(group, error)
        for waiting in group:
            if conflict := conflicts.get(waiting):
                waiting.done.set_exception(conflict)
            else:
                waiting.done.set_result(None)

    def _commit(self, group: list[_Waiting]) -> dict[_Waiting, Exception]:
        """Commit the rows of some requests together; return the conflicts, whose requests are left out."""
        by_token: dict[str, list[_Waiting]] = {}
        for waiting in group:
            by_token.setdefault(waiting.token, []).append(waiting)
        for_people = ((w.token, a) for w in group for a in w.arrivals if self._is_for_people(w.token, a))
        versions = {(arrival.key[0], arrival.scored.version): token for token, arrival in for_people}
        new_versions = {key: self._points_of(versions[key], key[0]) for key in versions.keys() - self._versions}
        conflicts: dict[_Waiting, Exception] = {}
        with (self._database.write if versions else self._database.read)() as connection:
            points = {task: points for (task, _), points in new_versions.items() if points}
            programme.save_points(connection, points, _BY, self._database.now())
            for token, requests in by_token.items():
                known = api_rows.owned(connection, token, {a.id for w in requests for a in w.arrivals})
                new, described = self._sort_out(requests, {key: row.text for key, row in known.items()}, conflicts)
                numbers = {key: row.id for key, row in known.items()} | self._insert(connection, token, new)
                for key, alert in described:
                    values = {"task": alert["alert_task"], "probability": alert["probability"]}
                    alerts.add_alert(connection, numbers[key], _BY, self._database.now(), **values)
        self._versions.update(key for key, points in new_versions.items() if points)
        return conflicts

    def _sort_out(
        self, requests: list[_Waiting], texts: dict[_Key, str], conflicts: dict[_Waiting, Exception]
    ) -> tuple[list[ScoredArrival], list[tuple[_Key, Mapping[str, Any]]]]:
        """Return what one token's requests bring: new rows for people, and alerts by row.

        Args:
            texts: Of the rows that are there.
            conflicts: Gets the requests that have a row with another text.
        """
        new, described = list[ScoredArrival](), list[tuple[_Key, Mapping[str, Any]]]()
        for waiting in requests:
            rows = [(a, intake.storable(a.text)) for a in waiting.arrivals if a.text is not None]
            before = ChainMap[_Key, str]({}, texts)
            if others := [arrival for arrival, text in rows if before.setdefault(arrival.key, text) != text]:
                conflicts[waiting] = RowConflictError(others)
                continue
            for arrival, text in rows:
                if self._is_for_people(waiting.token, arrival):
                    if arrival.key not in texts:
                        texts[arrival.key] = text
                        new.append(arrival)
                    if arrival.alert:
                        described.append((arrival.key, arrival.alert))
        return new, described

    def _insert(self, connection: Connection, token: str, new: Sequence[ScoredArrival]) -> dict[_Key, int]:
        """Insert new rows with their reads; return their numbers."""
        if not new:
            return {}
        first, policy, now = responses.next_id(connection), programme.load_policy(connection), self._database.now()
        rows = []
        for line, arrival in enumerate(new, start=first):
            outcome = {name: values[0] for name, values in columns_of([arrival.scored]).items()}
            outcome["read_behind"] = self._share(token, arrival)
            origin = Origin(f"api {token}", line, arrival.text or "", "", token)
            rows.append(intake.row_of(*arrival.key, origin, outcome, policy, line))
        try:
            numbers, _ = intake.insert_rows(connection, rows, f"api {token}", _BY, now)
        except InputError as error:
            raise ApiProblem(503, "Desk out of date", str(error), _UPDATE_S) from None
        owned = {arrival.key: number for number, arrival in zip(numbers, new, strict=True)}
        api_rows.own(connection, token, owned, now)
        return owned

    def _is_for_people(self, token: str, arrival: ScoredArrival) -> bool:
        scored = arrival.scored
        if scored.status in NOBODY_CAN:
            return False
        return bool(arrival.alert or intake.chosen(scored.status, scored.route, self._share(token, arrival))[1])

    def _share(self, token: str, arrival: ScoredArrival) -> float | None:
        """Return the probability with which people read a row behind the machine; None if they do not."""
        behind = self._read_behind
        if behind and behind.picks(arrival.task, arrival.id, arrival.scored, token):
            return behind.share_of(arrival.task)
        return None
