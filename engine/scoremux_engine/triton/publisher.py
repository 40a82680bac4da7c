"""The publisher: a thread that hands over what was recorded, four times a second, so that no batch waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from scoremux_engine.triton.recorder import Changes

EVERY_S = 0.25

log = logging.getLogger(__name__)


class Publisher:
    """Calls `take` and gives `publish` what it returned, until `close`."""

    def __init__(self, take: Callable[[], Changes], publish: Callable[[Changes], None]) -> None:
        self._take, self._publish = take, publish
        self._closed = threading.Event()
        self._complained = False
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; what was not handed over yet is lost."""
        self._closed.set()
        self._thread.join(timeout=2.0)

    def _run(self) -> None:
        while not self._closed.wait(EVERY_S):
            try:
                self._publish(self._take())
            except Exception as error:
                # Scoring goes on without metrics; what their absence means is for an alert to say.
                if not self._complained:
                    log.error("metrics cannot be published: %s", type(error).__name__)
                self._complained = True
