"""What a running server tells people: lines on standard output that nothing waits for."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading

_MOST_LINES = 1000
_END_S = 1.0


class Report:
    """Writes each sentence it is called with as a line, as it is; from any thread.

    A pipe that nobody reads, a terminal that is gone or a full disk loses lines and does nothing else: they are written
    by a thread of its own, past Python's buffers, which would be written, and waited for, at the end again.
    file: a descriptor (default: standard output's).
    """

    def __init__(self, file: int | None = None) -> None:
        self._file = _standard_output() if file is None else file
        self._lines: queue.Queue[str | None] = queue.Queue(_MOST_LINES)
        self._thread = threading.Thread(target=self._write, name="scoremux-report", daemon=True)
        self._thread.start()

    def __call__(self, sentence: str) -> None:
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(sentence)

    def end(self) -> None:
        """Wait until everything is written, but not for long."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
            self._thread.join(_END_S)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            rest = f"{line}\n".encode("utf-8", "replace")
            with contextlib.suppress(OSError):
                while rest and self._file >= 0:
                    rest = rest[os.write(self._file, rest) :]


def _standard_output() -> int:
    # Where a program was started without one, its number is another file's by now.
    try:
        return sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):
        return -1
