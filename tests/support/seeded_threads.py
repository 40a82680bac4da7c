"""Threads that run one at a time, in an order that is a function of a seed."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping

_MOST_STEPS = 50_000


class Killed(BaseException):
    """Ends a thread as a kill ends a process: each further step of it fails, its cleaning up too."""


class SeededThreads:
    """Lets one thread run from step to step; a draw says which one is next.

    dies_at: The step, by name, at which a thread is killed.
    """

    def __init__(self, seed: int, dies_at: Mapping[str, int] | None = None) -> None:
        self.draw = random.Random(seed)
        self._dies_at, self._steps = dies_at or {}, Counter[str]()
        self._local, self._turns = threading.local(), dict[str, threading.Semaphore]()
        self._errors: list[BaseException] = []

    def run(self, **workers: Callable[[], None]) -> None:
        """Run these until all have ended. Raises the first error of one of them."""
        self._turns = {name: threading.Semaphore(0) for name in workers}
        threads = [threading.Thread(target=self._work, args=each, daemon=True) for each in workers.items()]
        for thread in threads:
            thread.start()
        self._pass_on()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), "a thread waits outside of the schedule"
        if self._errors:
            raise self._errors[0]

    def step(self) -> None:
        """Let any thread go on; nothing in a thread that is not part of the schedule."""
        name = getattr(self._local, "name", "")
        if not name:
            return
        self._steps[name] += 1
        assert self._steps[name] < _MOST_STEPS, f"{name} cannot go on"
        if self._steps[name] >= self._dies_at.get(name, _MOST_STEPS):
            raise Killed
        own = self._turns[name]
        self._pass_on()
        own.acquire()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.step()

    def _work(self, name: str, work: Callable[[], None]) -> None:
        self._local.name = name
        self._turns[name].acquire()
        try:
            work()
        except Killed:
            pass
        except BaseException as error:
            self._errors.append(error)
        finally:
            self._local.name = ""
            del self._turns[name]
            self._pass_on()

    def _pass_on(self) -> None:
        if self._turns:
            self._turns[self.draw.choice(sorted(self._turns))].release()
