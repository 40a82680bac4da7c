"""Waiting for what other threads and processes do, and calls side by side."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def until(
    holds: Callable[[], object],
    process: subprocess.Popen[Any] | None = None,
    shown: Callable[[], object] = lambda: "",
    within_s: float = 120.0,
) -> None:
    """Wait until something holds. Fails with what `shown` returns after `within_s`, or when `process` has ended."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert (process is None or process.poll() is None) and time.monotonic() < deadline, shown()
        time.sleep(0.02)


def side_by_side(work: Callable[[T], object], arguments: Iterable[T]) -> None:
    """Call `work` with every argument, each call in a thread of its own; raises what a call raises."""
    arguments = list(arguments)
    with ThreadPoolExecutor(len(arguments)) as threads:
        list(threads.map(work, arguments))
