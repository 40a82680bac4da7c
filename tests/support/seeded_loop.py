"""An event loop with virtual time, whose order of events is a function of a seed."""

import asyncio
import heapq
import random
from collections import deque
from typing import Any


class SeededLoop(asyncio.SelectorEventLoop):
    """Runs what is ready in a random order, and jumps to the next timer where nothing is ready."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._draw, self._now = random.Random(seed), 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        loop: Any = self  # its queues are not part of its types
        while loop._scheduled and loop._scheduled[0]._cancelled:
            loop._timer_cancelled_count -= 1
            heapq.heappop(loop._scheduled)._scheduled = False
        if not loop._ready:
            assert loop._scheduled, "nothing can go on"
            self._now = max(self._now, loop._scheduled[0]._when)
        shuffled = list(loop._ready)
        self._draw.shuffle(shuffled)
        loop._ready = deque(shuffled)
        super()._run_once()  # type: ignore[misc]


async def cancel_all_others() -> None:
    """Cancel every other task of this loop, and wait for its end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
