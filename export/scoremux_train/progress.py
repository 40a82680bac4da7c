"""Progress of training on a terminal, and the time that it waits for another run to end."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

LOCK_TIMEOUT_S = 2.0
"""A process that was just killed may hold its lock a moment longer."""

_LINE_EVERY_S = 30.0
_UNIT = "passes of a response through an adapter (responses × epochs × adapters)"
_NAME = "tasks, folds and final adapters"

Progress = Callable[[int, int], None]
"""Called with how much is done of how much."""


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Give a callable for a run to report each step: a bar with the time left on a terminal, plain lines otherwise."""
    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        yield _lines()
        return
    console.print(f"Progress counts {_UNIT}.")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with rich.progress.Progress(*columns, console=console) as bar:
        task = bar.add_task(_NAME)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _lines() -> Progress:
    """Print the unit of progress, the first estimate of its time after a step, then a line from time to time."""
    start: tuple[float, int] | None = None
    next_s = 0.0

    def show(done: int, of: int) -> None:
        nonlocal start, next_s
        now_s = time.monotonic()
        if start is None:
            start = now_s, done
            line = f"{of:,} {_UNIT}, {done:,} done"
        elif now_s < next_s and done < of:
            return
        else:
            start_s, first = start
            next_s = now_s + _LINE_EVERY_S
            left_s = (of - done) * (now_s - start_s) / max(1, done - first)
            minutes = f"about {left_s / 60:.0f} min" if left_s >= 60 else "less than a minute"
            left = f", {minutes} left" if done < of else ""
            line = f"{done:,} of {of:,}{left}"
        print(f"{_NAME}: {line}", file=sys.stderr, flush=True)

    return show
