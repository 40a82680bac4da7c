"""Threads that work side by side, each with a copy of what it works with; results come in the order of the work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import Generic, TypeVar

import torch

Tool = TypeVar("Tool")
Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers(Generic[Tool]):
    """Runs each product with the same number of threads, so that no bit depends on how many cores there are.

    Args:
        tool: What work is done with, by one worker at a time.
        copy: Returns another one for the next worker.
        count: How many workers there are.
        threads: Of one product.
    """

    def __init__(self, tool: Tool, copy: Callable[[Tool], Tool], count: int, threads: int) -> None:
        self._tool, self._copy, self._count = tool, copy, count
        self._idle: SimpleQueue[Tool] | None = None
        self._pool = ThreadPoolExecutor(count, "train", torch.set_num_threads, (threads,))

    def alone(self, work: Callable[[Tool], Result]) -> Result:
        """Return what one worker makes with the first tool."""
        return self._pool.submit(work, self._tool).result()

    def map(self, work: Callable[[Tool, Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield what workers make of each item, in the order of items; few results wait at a time."""
        if self._idle is None:
            self._idle = SimpleQueue()
            for number in range(self._count):
                self._idle.put(self._copy(self._tool) if number else self._tool)
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(self._pool.submit(partial(self._with_tool, self._idle, work, item)))
            if len(waiting) > self._count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    @staticmethod
    def _with_tool(idle: SimpleQueue[Tool], work: Callable[[Tool, Item], Result], item: Item) -> Result:
        tool = idle.get()
        try:
            return work(tool, item)
        finally:
            idle.put(tool)
