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
        """Return the response for each trait of the item that it names, and the total.

        Empty for an unknown item, and where it names a version that is not live: its traits are not listed.
        """
        known = self._known if time.monotonic() < self._until else {}
        return [replace(response, task=task) for task in known.get(response.task, ())]

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
    """Return the tasks of the traits and the total of each item, sorted, by ``essay-1`` and ``essay-1@digest``."""
    together: dict[tuple[str, str], list[str]] = {}
    for task in tasks:
        for pin in ("", f"@{task.version}"):
            together.setdefault((task.version, pin), []).append(task.id + pin)
    return {names[0].rpartition(".")[0] + pin: names for (_, pin), names in together.items() if len(names) > 1}
