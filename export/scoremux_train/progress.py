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
_STAGES = {"start": "shared start", "tasks": "tasks, folds and final adapters"}

Progress = Callable[[str, int, int], None]
"""Called with the stage, and how much is done of how much."""


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
        bars = {stage: bar.add_task(name, visible=False) for stage, name in _STAGES.items()}
        yield lambda stage, done, of: bar.update(
            bars[stage],
            completed=done,
            total=of,
            visible=True,
        )


def _lines() -> Progress:
    """Print the unit of a stage, the first estimate of its time after a step, then a line from time to time."""
    starts: dict[str, tuple[float, int]] = {}
    next_s = 0.0

    def show(stage: str, done: int, of: int) -> None:
        nonlocal next_s
        now_s, name = time.monotonic(), _STAGES[stage]
        if stage not in starts:
            starts[stage] = now_s, done
            next_s = 0.0
            line = f"{of:,} {_UNIT}, {done:,} done"
        elif now_s < next_s and done < of:
            return
        else:
            start_s, first = starts[stage]
            next_s = now_s + _LINE_EVERY_S
            left_s = (of - done) * (now_s - start_s) / max(1, done - first)
            minutes = f"about {left_s / 60:.0f} min" if left_s >= 60 else "less than a minute"
            left = f", {minutes} left" if done < of else ""
            line = f"{done:,} of {of:,}{left}"
        print(f"{name}: {line}", file=sys.stderr, flush=True)

    return show
