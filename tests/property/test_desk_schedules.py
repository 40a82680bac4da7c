"""Raters, an erasure and a leader who closes an account, in random schedules of the desk's statements.

The order is a function of a seed. Every defect is found, with its seed, when it is put in.
"""

import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, event, select
from starlette.datastructures import FormData

import postgres
from desks import FAST_HASHER, check_counts, make_programme
from scoremux_desk import erasure
from scoremux_desk.database.accounts import begin_session, change_person, person_of
from scoremux_desk.database.connection import Database
from scoremux_desk.database.schema import ERASED, decisions, reads, rows
from scoremux_desk.database.verification import verify
from scoremux_desk.desk_policy import DeskPolicy
from scoremux_desk.errors import DatabaseError, LeaseLostError, NotAllowedError, ReviewError
from scoremux_desk.pages.visits import Desk, Visit
from scoremux_desk.reading import human_decisions, leases
from seeded_threads import SeededThreads

_RATERS = ("anna", "ben", "cleo")
_POLICY = DeskPolicy(groups=False, guard_s=0, second_reads=1, validity=0)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.nightly)])
def begun(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Returns a function that runs one schedule. It raises AssertionError where a promise breaks."""
    with postgres.database_name(request.param, tmp_path) as name:
        programme = make_programme(tmp_path, 8, _POLICY, name=name, raters=_RATERS)
        cookies = {who: begin_session(programme.database, programme.people[who]) for who in _RATERS}
        programme.database.close()
        copied = iter(range(10_000))

        def copy() -> str:
            if request.param == "sqlite":
                return shutil.copy(name, str(tmp_path / "copy.db"))
            other = f"desk{next(copied)}"
            with closing(psycopg.connect(name.replace("/postgres?", "/template1?"), autocommit=True)) as connection:
                connection.execute(f"CREATE DATABASE {other} TEMPLATE postgres")
            return name.replace("/postgres?", f"/{other}?")

        def run(seed: int, defect: Callable[[pytest.MonkeyPatch], None] = lambda _: None) -> None:
            with pytest.MonkeyPatch.context() as patch:
                defect(patch)
                database = Database(copy(), clock=lambda: programme.clock[0])
                try:
                    Schedule(seed, database, cookies).run()
                    check(database)
                finally:
                    database.close()

        yield run


class Schedule:
    """Threads that each are a desk of their own on one database."""

    def __init__(self, seed: int, database: Database, cookies: dict[str, str]) -> None:
        self.threads, self.desk, self.cookies = SeededThreads(seed), Desk(database), cookies
        self.writer: Any = None
        self.read_by, self.closed = dict[int, str](), set[str]()
        database._in_process = nullcontext()  # type: ignore[assignment]  # desks in other processes do not share it
        event.listen(database.engine, "before_cursor_execute", self._before)
        for name in ("commit", "rollback"):
            event.listen(database.engine, name, self._ended)

    def run(self) -> None:
        work = {who: (lambda who=who: self.rate(who)) for who in _RATERS}
        self.threads.run(**work, eraser=self.erase, leader=self.close_account)

    def _before(self, connection: Any, _: Any, statement: str, *__: Any) -> None:
        if statement == "BEGIN IMMEDIATE" or "pg_advisory_xact_lock" in statement:
            self.threads.wait_until(lambda: self.writer is None)
            self.writer = connection
        self.threads.step()

    def _ended(self, connection: Any) -> None:
        if connection is self.writer:
            self.writer = None

    def visit(self, who: str) -> AbstractContextManager[Any]:
        request: Any = SimpleNamespace(cookies={"desk": self.cookies[who]}, scope={})
        visit = Visit(self.desk, request, None, FormData())
        with self.desk.database.read() as connection:
            visit.signed_in = person_of(connection, self.cookies[who])
        return visit.writing()

    def rate(self, who: str) -> None:
        try:
            for number in range(5):
                with self.visit(who) as access:
                    assert who not in self.closed, "a closed account goes on"
                    read = leases.take(access, "", "", self.threads.draw.random)
                if read is None:
                    continue
                assert self.read_by.setdefault(read.id, who) == who, "a lease was given twice"
                try:
                    with self.visit(who) as access:
                        assert who not in self.closed, "a closed account goes on"
                        human_decisions.decide(access, human_decisions.Rating(read.token, number % 2))
                except LeaseLostError:
                    del self.read_by[read.id]
        except NotAllowedError:
            assert who in self.closed, "an open account was refused"

    def erase(self) -> None:
        assert erasure._erase_rows(self.desk.database, [1, 2], "dana") == 2

    def close_account(self) -> None:
        change_person(self.desk.database, "ben", "dana", active=False, hasher=FAST_HASHER)
        self.closed.add("ben")


def check(database: Database) -> None:
    """Check what must hold when all have ended."""
    check_counts(SimpleNamespace(database=database))  # type: ignore[arg-type]
    with database.read() as connection:
        verify(connection)
        states = dict(connection.execute(select(rows.c.id, rows.c.state)).tuples().all())
        pending = connection.scalars(select(reads.c.row).where(reads.c.state.in_(("open", "leased"))))
        assert not {row for row in pending if states[row] == ERASED}, "an erased row is still to be read"
        made = connection.execute(select(decisions.c.row, decisions.c.kind, decisions.c.person)).tuples().all()
    twice = [each for each, n in Counter((row, kind) for row, kind, _ in made).items() if n > 1]
    assert not twice, f"decided twice: {twice}"
    both = [each for each, n in Counter((row, person) for row, _, person in made).items() if n > 1]
    assert not both, f"one person is both readers: {both}"


@pytest.mark.parametrize("schedules", [6, pytest.param(600, marks=pytest.mark.nightly)])
def test_leases_second_reads_erasure_and_closed_accounts(begun: Callable[..., None], schedules: int) -> None:
    for seed in range(schedules):
        try:
            begun(seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def chooses_before_it_waits(patch: pytest.MonkeyPatch) -> None:
    """The next read is chosen from what the database was before a writer waited for the others."""
    early, write, choose = threading.local(), Database.write, leases._next_open

    @contextmanager
    def writing(database: Database) -> Iterator[Connection]:
        with database.read() as early.connection:
            early.connection.execute(select(reads.c.id))
            with write(database) as connection:
                yield connection

    patch.setattr(Database, "write", writing)
    patch.setattr(leases, "_next_open", lambda _, *arguments: choose(early.connection, *arguments))


def trusts_the_beginning(patch: pytest.MonkeyPatch) -> None:
    """A request acts for whoever was signed in when it began."""
    patch.setattr("scoremux_desk.pages.visits.person_of", lambda *_: True)


def leaves_reads(patch: pytest.MonkeyPatch) -> None:
    """An erasure leaves the reads of its rows."""
    patch.setattr(erasure.reads, "withdraw_reads", lambda *_: None)


@pytest.mark.parametrize(
    ("defect", "says"),
    [
        (chooses_before_it_waits, "a lease was given twice"),
        (trusts_the_beginning, "a closed account goes on"),
        (leaves_reads, "erased"),
    ],
)
def test_defects_of_the_desk_are_found(begun: Callable[..., None], defect: Callable[..., None], says: str) -> None:
    for seed in range(1000):
        try:
            begun(seed, defect)
        except (AssertionError, DatabaseError, ReviewError) as error:
            print(f"found at seed {seed}: {error!r}")
            if says in str(error):
                return
    pytest.fail("not found in 1,000 schedules")
