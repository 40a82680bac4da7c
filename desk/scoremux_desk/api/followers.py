"""Requests that wait for a change: one look at the database, several times a second, serves all of this process."""

import asyncio
import logging
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from scoremux_desk.database.connection import Database
from scoremux_desk.errors import DatabaseError
from scoremux_desk.reading.change_feed import ChangePage, changes_after, tokens_changed
from scoremux_files.row_files import chunks

_LOOK_S = 0.2
_WOKEN_AT_ONCE, _PAUSE_S = 10, 0.02
"""Followers that are woken together, and the pause after them, in which rows of others are answered."""
_SHORTEST = 0.7
"""Of the time that a request may wait: requests that began together do not all end together."""
_THREADS = 2
"""The feed's own, so that many followers take neither threads nor connections from rows."""
_Answer = TypeVar("_Answer")
_log = logging.getLogger(__name__)


class Followers:
    """The requests of one process that follow changes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._threads = ThreadPoolExecutor(_THREADS, "changes")
        self._waiting: dict[asyncio.Future[None], tuple[str, int]] = {}  # each with its token and where it has read to
        self._seen = 0  # the entry of the record up to which nobody waits for a change
        self._looking: asyncio.Task[None] | None = None
        self._reading: dict[tuple[str, str | None], asyncio.Future[ChangePage]] = {}
        self._stopped = False

    async def page(self, token: str, cursor: str | None) -> ChangePage:
        """Return the changes after a cursor; equal questions at the same time are asked once. Raises as `read` does."""
        asked = token, cursor
        if asked not in self._reading:
            self._reading[asked] = reading = asyncio.ensure_future(self._read(changes_after, token, cursor))
            reading.add_done_callback(lambda _: self._reading.pop(asked))
        return await asyncio.shield(self._reading[asked])

    async def wait(self, token: str, number: int, seconds: float) -> bool:
        """Return as soon as a token has a change after an entry of the record; False if it has none in time."""
        if self._stopped:
            return False
        woken = asyncio.get_running_loop().create_future()
        self._seen = min(self._seen, number) if self._waiting else number
        self._waiting[woken] = token, number
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            await asyncio.wait_for(woken, seconds * random.uniform(_SHORTEST, 1))
        except asyncio.TimeoutError:
            return False
        finally:
            del self._waiting[woken]
        return not self._stopped

    def stop(self) -> None:
        """Have all requests that wait end, and later ones not wait."""
        self._stopped = True
        for woken in self._waiting:
            _wake(woken)

    async def _look(self) -> None:
        """Look for changes as long as requests wait."""
        while self._waiting:
            seen = self._seen
            try:
                last, changed = await self._read(tokens_changed, seen)
            except DatabaseError as error:
                _log.warning("changes wait: %s", error)
            else:
                # A record that is shorter than before is of a backup, which the cursor of each request tells.
                those = [
                    woken
                    for woken, (token, number) in self._waiting.items()
                    if last < number or changed.get(token, 0) > number
                ]
                if self._seen == seen:  # no request came that has read less
                    self._seen = last
                for some in chunks(those, _WOKEN_AT_ONCE):
                    for woken in some:
                        _wake(woken)
                    await asyncio.sleep(_PAUSE_S)
            await asyncio.sleep(_LOOK_S)

    async def _read(self, question: Callable[..., _Answer], *arguments: object) -> _Answer:
        """Return what the database answers, in one of the feed's own threads."""

        def ask() -> _Answer:
            with self._database.read() as connection:
                return question(connection, *arguments)

        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
