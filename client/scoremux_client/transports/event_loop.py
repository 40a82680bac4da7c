"""The event loop of this process: one daemon thread that runs the HTTP requests of every client.

Clients are shared by threads and by the caller's own event loops, so none of those can be theirs. A forked process
starts a loop of its own at first use.
"""

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_inherited: list[asyncio.AbstractEventLoop] = []
"""Loops of the processes that this one was forked from. To close one would disturb the process that runs it."""


def start(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Run a coroutine on the loop of this process, made at first use; cancelling the future cancels it."""
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="scoremux", daemon=True).start()
    return asyncio.run_coroutine_threadsafe(coroutine, _loop)


def _forget_loop() -> None:
    global _loop, _lock
    _inherited.extend([] if _loop is None else [_loop])
    _loop, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_loop)
