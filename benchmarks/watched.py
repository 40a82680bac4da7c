"""A server under its watcher, in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from scoremux_server.server import Server
from scoremux_server.watch.watcher import Watcher


@contextmanager
def watched(server: Server) -> Iterator[Watcher]:
    """Serve under a watcher on a thread of its own."""
    watcher, stop, up = Watcher(server), threading.Event(), threading.Event()
    thread = threading.Thread(target=watcher.run, args=(stop, up.set))
    thread.start()
    up.wait(120)
    try:
        yield watcher
    finally:
        stop.set()
        thread.join(90)
