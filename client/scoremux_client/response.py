"""What goes in: a student's response to a task."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Response:
    """A student's text for a task.

    task: task id such as ``en-6.3-ipp``, or ``id@digest`` to pin a version.
    text: the response. ``bytes`` go to the server as they are (they must be UTF-8 to get a score).
    id: the caller's own name for the row; comes back untouched.
    """

    task: str
    text: str | bytes
    id: str | None = None

    def __repr__(self) -> str:
        # A student's text must not end up in a traceback or a log.
        return f"Response(task={self.task!r}, id={self.id!r}, text=<{len(self.text)} long>)"
