"""Whether processes compute: told from the processor time that the kernel counts for them."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable

from scoremux_server.processes import Process

_SHARE = 0.02
"""A stub that waits for work takes about 0.4 % of a core; one that computes takes nearly all of it."""


class Idleness:
    """Remembers the processor time of some processes for `over_s` seconds."""

    def __init__(self, over_s: float) -> None:
        self._over_s = over_s
        self._samples: deque[tuple[float, int]] = deque()

    def forget(self) -> None:
        """Begin again: the processes are others now."""
        self._samples.clear()

    def add(self, seen: Iterable[Process | None]) -> None:
        """Take the processes as they are now. One that waits for a disk or a network file counts as busy."""
        now, present = time.monotonic(), [process for process in seen if process]
        if any(process.waits_for_disk for process in present):
            self._samples.clear()
        self._samples.append((now, sum(process.ticks for process in present)))
        while len(self._samples) > 1 and self._samples[1][0] <= now - self._over_s:
            self._samples.popleft()

    @property
    def idle(self) -> bool:
        """Whether they took next to no processor time for `over_s`."""
        (first, ticks), (last, more) = self._samples[0], self._samples[-1]
        if last - first < self._over_s * 0.9:
            return False
        return (more - ticks) / os.sysconf("SC_CLK_TCK") < _SHARE * (last - first)
