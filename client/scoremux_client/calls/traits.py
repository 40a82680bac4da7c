"""The traits of items: a client learns them from the tasks of a server, once a row names an item."""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import replace

from scoremux_client.calls.attempt import Notify
from scoremux_client.errors import ScoremuxError
from scoremux_client.rows import Response
from scoremux_client.served_tasks import ServedTask

_KNOWN_S = 60.0
"""How long what a server said is used; a new version of an item may have other traits."""


class Traits:
    """Shared by the calls of a client, from any thread. `listed` asks a server for its tasks."""

    def __init__(self, listed: Callable[[], Iterable[ServedTask]]) -> None:
        self._listed = listed
        self._lock = threading.Lock()
        self._known: dict[str, list[str]] = {}
        self._until = 0.0
        self._asked: Future[None] | None = None

    def of(self, response: Response) -> list[Response]:
        """Return the response for each trait of the item that it names, and the total; empty for an unknown item."""
        if not self._known or time.monotonic() > self._until or not isinstance(response.task, str):
            return []
        item, at, digest = response.task.partition("@")
        return [replace(response, task=f"{trait}{at}{digest}") for trait in self._known.get(item, ())]

    def ask(self, notify: Notify) -> Future[None]:
        """Ask for the tasks in another thread, and call `notify` after that. Calls that ask at once share an answer."""
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked = Future()
                threading.Thread(target=self._learn, args=(self._asked,), daemon=True).start()
            asked = self._asked
        asked.add_done_callback(lambda _: notify())
        return asked

    def _learn(self, asked: Future[None]) -> None:
        try:
            self._known, self._until = traits_of(self._listed()), time.monotonic() + _KNOWN_S
            asked.set_result(None)
        except ScoremuxError as error:
            asked.set_exception(error)


def traits_of(tasks: Iterable[ServedTask]) -> dict[str, list[str]]:
    """Return the ids of the traits and the total of each item, sorted: tasks of one version."""
    together: dict[str, list[str]] = {}
    for task in tasks:
        together.setdefault(task.version, []).append(task.id)
    return {ids[0].rpartition(".")[0]: ids for ids in together.values() if len(ids) > 1}
