"""The names that rows are counted under."""

from __future__ import annotations

from collections.abc import Collection

from scoremux_client.contract import TASK_PATTERN

NO_TASK, OTHERS = "(no task id)", "(other tasks)"
_MOST_TASKS = 20_000


def tally_name(task: str, known: Collection[str] = ()) -> str:
    """Return a task's own name where it is one, and there is room beside the `known` ones.

    Where columns were mistaken for each other it is a student's text, and there are as many as rows.
    """
    if not TASK_PATTERN.fullmatch(task):
        return NO_TASK
    return task if task in known or len(known) < _MOST_TASKS else OTHERS
