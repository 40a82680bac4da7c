"""Rows that people read are committed to the desk's database before their answer is sent."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from typing import Any, NamedTuple

from scoremux_batch.jobs import ForPeople, Origin
from scoremux_client import Scored, TransportError
from scoremux_client.contract import NOBODY_CAN
from scoremux_desk.api.callers import LOCAL
from scoremux_desk.api.problems import UPDATE_S, ApiProblem
from scoremux_desk.database import api_rows, programme, responses
from scoremux_desk.database.connection import Connection, Database
from scoremux_desk.errors import DatabaseError
from scoremux_desk.reading import alerts, intake
from scoremux_files import InputError, first_of

_BY = "scoremux api"
_PATIENCE_S = 10.0
_MOST_NAMES = 100
"""Of kept columns of a namespace."""
_NOBODY = ForPeople()
_log = logging.getLogger(__name__)

_COMPARED = ("text", "student", "administration", "kept")
_Key = tuple[str, str]


class ScoredArrival(NamedTuple):
    """A scored row with its text, and what came with it.

    alert: its description (`Alert.describe`); trait: the trait's name, where the caller named an item with traits.
    """

    text: str | None
    scored: Scored
    alert: Mapping[str, Any] | None = None
    student: str = ""
    administration: str = ""
    kept: str = ""
    trait: str = ""

    @property
    def key(self) -> _Key:
        """Task and id, which name a row among those of its token."""
        return self.scored.task.partition("@")[0], str(self.scored.id)


class LiveIntake:
    """Commits rows that people read; rows that the machine decides are not stored."""

    def __init__(
        self, database: Database, people: ForPeople = _NOBODY, served: Callable[[], Iterable[Any]] = lambda: ()
    ) -> None:
        """served: lists the tasks of the scoring server, which the desk learns the points of levels from."""
        self._database = database
        self._read_behind = people.read_behind
        self._served = served
        self._points = dict[str, tuple[float, ...]]()
        self._thread = ThreadPoolExecutor(1, "intake")

    @cached_property
    def kept(self) -> dict[str, set[str]]:
        """Names of the columns that the rows of each namespace keep."""
        return api_rows.kept_names(self._database)

    def check_kept(self, namespace: str, names: set[str]) -> None:
        """Note names of columns that rows keep. Raises ApiProblem (422) where these would be too many."""
        kept = self.kept.setdefault(namespace, set())
        if not (new := names - kept):
            return
        if len(kept) + len(new) <= _MOST_NAMES:
            kept |= new
            return
        detail = f"the rows of {namespace} keep {len(kept)} columns, and {_MOST_NAMES} is the most"
        _log.warning("limit: %s; a request of %s has more", detail, namespace)
        raise ApiProblem(422, "Too many columns", f"keep: {detail}: send what differs as values, not as names")

    async def commit(self, token: str, arrivals: Sequence[ScoredArrival]) -> None:
        """Commit the rows of a request after those of earlier requests; a row that is there already stays as it is.

        Raises ApiProblem where one is there with another text, student, administration or kept columns (then nothing
        is stored), or the desk knows a task with fewer levels; DatabaseError, also if it takes too long.
        """
        committed = self._thread.submit(self._commit, token, arrivals)
        try:
            await asyncio.wait_for(asyncio.wrap_future(committed), _PATIENCE_S)
        except asyncio.TimeoutError:
            raise DatabaseError("the database is busy; the rows may be stored later") from None

    def _commit(self, token: str, arrivals: Sequence[ScoredArrival]) -> None:
        for_people = [arrival for arrival in arrivals if self._is_for_people(token, arrival)]
        self._learn_points({arrival.key[0] for arrival in for_people})
        with (self._database.write if for_people else self._database.read)() as connection:
            known = api_rows.owned(connection, token, {arrival.key[1] for arrival in arrivals})
            before = {key: tuple(getattr(row, name) for name in _COMPARED) for key, row in known.items()}
            taken = dict[str, set[str]]()
            for arrival in arrivals:
                if arrival.text is None:
                    continue
                origin = _origin(token, arrival)
                now = tuple(intake.storable(getattr(origin, name)) for name in _COMPARED)
                was = before.setdefault(arrival.key, now)
                if differ := {name for name, a, b in zip(_COMPARED, was, now, strict=True) if a != b}:
                    taken.setdefault(arrival.key[1], set()).update(differ)
            if taken:
                names = sorted(set[str]().union(*taken.values()))
                other = " or ".join("other kept columns" if name == "kept" else f"another {name}" for name in names)
                detail = f"rows with {other} have these ids: {first_of([*taken])}"
                raise ApiProblem(409, "Row exists", f"{detail}; give new ids, which no administration has")
            new = {arrival.key: arrival for arrival in for_people if arrival.key not in known}
            numbers = {key: row.id for key, row in known.items()} | self._insert(connection, token, new.values())
            for arrival in for_people:
                if alert := arrival.alert:
                    values = {"task": alert["alert_task"], "probability": alert["probability"]}
                    alerts.add_alert(connection, numbers[arrival.key], _BY, **values)

    def _insert(self, connection: Connection, token: str, new: Collection[ScoredArrival]) -> dict[_Key, int]:
        """Insert new rows with their reads; return their numbers."""
        if not new:
            return {}
        first = responses.next_id(connection)
        policy = programme.load_policy(connection)
        described = {task for task, item in programme.all_items(connection).items() if item.is_described}
        new_tasks = {arrival.key[0] for arrival in new} - described
        named = [programme.Item(task, points) for task in sorted(new_tasks) if (points := self._points.get(task))]
        programme.save_items(connection, named, _BY)
        rows = []
        lines = dict[tuple[str, str], int]()
        for number, arrival in enumerate(new, start=first):
            task, name = arrival.key
            line = lines.setdefault((task.removesuffix(f".{arrival.trait}"), name), number)
            low, high = arrival.scored.level_range or (None, None)
            outcome = asdict(arrival.scored) | {"level_low": low, "level_high": high, "trait": arrival.trait}
            outcome["read_behind"] = self._share(token, arrival)
            origin = _origin(token, arrival)._replace(line=line)
            rows.append(intake.row_of(task, name, origin, outcome, policy, number))
        try:
            numbers, _ = intake.insert_rows(connection, rows, f"api {token}", _BY)
        except InputError as error:
            raise ApiProblem(503, "Desk out of date", str(error), UPDATE_S) from None
        owned = {arrival.key: number for number, arrival in zip(numbers, new, strict=True)}
        api_rows.own(connection, token, owned)
        return owned

    def _learn_points(self, tasks: set[str]) -> None:
        """Ask the scoring server what levels are worth, once for each task."""
        if tasks <= self._points.keys():
            return
        with suppress(TransportError):
            self._points |= {task.id: task.levels for task in self._served()}
            self._points |= dict.fromkeys(tasks - self._points.keys(), ())

    def _is_for_people(self, token: str, arrival: ScoredArrival) -> bool:
        scored = arrival.scored
        share = self._share(token, arrival)
        is_chosen = bool(arrival.alert or intake.chosen(scored.status, scored.route, share)[1])
        return is_chosen and scored.status not in NOBODY_CAN

    def _share(self, token: str, arrival: ScoredArrival) -> float | None:
        """Return the probability with which people read a row behind the machine; None if they do not."""
        (task, name), behind = arrival.key, self._read_behind
        picked = behind and behind.picks(task, name, arrival.scored, token, arrival.trait)
        return behind.share_of(task, arrival.trait) if behind and picked else None


def _origin(token: str, arrival: ScoredArrival) -> Origin:
    """Return where a row comes from; students and administrations of other tokens may have equal names."""
    own = "" if token == LOCAL else f"{token}/"
    at = f"{own}{arrival.administration}" if arrival.administration else token
    student = f"{own}{arrival.student}" if arrival.student else ""
    return Origin(f"api {token}", 0, arrival.text or "", student, at, arrival.kept)
