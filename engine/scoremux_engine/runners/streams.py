"""How a runner on the CPU shares out its cores: micro-batches side by side, or one on all of them."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from scoremux_engine.errors import RunnerError

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True)
class Streams:
    """`count` micro-batches are computed at once, each by `threads` threads.

    One thread each is the default. Nothing waits for the slowest part of a product then, and no library has cause to
    split a sum between threads, so bits do not depend on how many cores there are.
    """

    count: int
    threads: int

    @classmethod
    def of(cls, threads: int | None, streams: int | None) -> Streams:
        """Share out `threads` (None: all cores) among `streams` (None: one a thread). Raises RunnerError."""
        cores = threads or available_cores()
        count = streams or cores
        if count > cores:
            raise RunnerError(f"streams is {count}, but there are {cores} threads; each stream takes at least one")
        return cls(count, cores // count)


def available_cores(quota: Path = _QUOTA) -> int:
    """Return how many cores this process can keep busy: those it may run on, or fewer if its control group says so.

    quota: control group v2's `cpu.max`, "QUOTA PERIOD" in microseconds or "max PERIOD".
    """
    cores = len(os.sched_getaffinity(0))
    try:
        granted, period = quota.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if granted == "max" else max(1, min(cores, math.ceil(int(granted) / int(period))))
