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
    """Runs each product with one thread, so that no bit depends on how many cores there are.

    Args:
        tool: The object that work is done with, by one worker at a time.
        copy: Returns a copy of the tool, for another worker.
    """

    def __init__(self, tool: Tool, copy: Callable[[Tool], Tool], count: int) -> None:
        self._count = count
        self._idle = SimpleQueue[Tool]()
        for number in range(count):
            self._idle.put(copy(tool) if number else tool)
        self._pool = ThreadPoolExecutor(count, "train", torch.set_num_threads, (1,))

    def map(self, work: Callable[[Tool, Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the result of each item, in the order of items; few results wait at a time."""
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(self._pool.submit(partial(self._with_tool, work, item)))
            if len(waiting) > self._count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _with_tool(self, work: Callable[[Tool, Item], Result], item: Item) -> Result:
        tool = self._idle.get()
        try:
            return work(tool, item)
        finally:
            self._idle.put(tool)
