"""Tasks → labels of metrics, bounded in number however many tasks there are and however often a stub dies."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

OTHER, UNKNOWN = "_other", "_unknown"
"""Labels for the tasks beyond the first, and for rows that named no task. No task can be called so."""


class TaskLabels:
    """The first `most` tasks that rows name get a label of their own.

    file: where the labels are kept, for as long as it is there. Triton keeps the series of a stub that died, so that
    the next stub must go on with the same ones, or their number grows with each death. Without a file, or where it
    cannot be read or written, the labels last as long as this object.
    """

    def __init__(self, most: int, file: Path | None = None) -> None:
        self._most = most
        self._file = file
        self._own: set[str] = set()
        if file:
            with contextlib.suppress(OSError, ValueError):
                self._own.update(file.read_text(encoding="utf-8").splitlines()[:most])

    def of(self, task: str | None) -> str:
        """Return a task's label; UNKNOWN for None."""
        if task is None:
            return UNKNOWN
        if task in self._own:
            return task
        if len(self._own) >= self._most:
            return OTHER
        self._own.add(task)
        self._keep(task)
        return task

    def _keep(self, task: str) -> None:
        if not self._file:
            return
        with contextlib.suppress(OSError):
            file = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(file, f"{task}\n".encode())
            finally:
                os.close(file)
