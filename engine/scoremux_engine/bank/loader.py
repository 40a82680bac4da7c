"""The loader: a thread that keeps a bank in step with its store beside the scoring."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import Protocol

_LOOK_EVERY_S = 0.05

log = logging.getLogger(__name__)


class _Bank(Protocol):
    def refresh(self) -> None: ...

    def load_live(self) -> None: ...


class Loader:
    """Looks at the store twenty times a second (one stat) and reads what changed; ends with its bank."""

    def __init__(self, bank: _Bank) -> None:
        self._bank = weakref.ref(bank)
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Look now; the first call starts the thread."""
        self._wake.set()
        if self._thread is None:
            self._thread = threading.Thread(target=_run, args=(self._bank, self._wake), name="bank-loader", daemon=True)
            self._thread.start()


def _run(reference: weakref.ref[_Bank], wake: threading.Event) -> None:
    while True:
        wake.wait(_LOOK_EVERY_S)
        wake.clear()
        bank = reference()
        if bank is None:
            return
        try:
            bank.refresh()
            bank.load_live()
        except Exception as error:
            # The next batch meets the same error and reports it; the loader only must not die of it.
            log.error("the store cannot be read: %s", type(error).__name__)
        del bank  # else this thread would keep it alive
