"""Progress of training on a terminal, and the time that it waits for another run to end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

LOCK_TIMEOUT_S = 2.0
"""A process that was just killed may hold its lock a moment longer."""

_LINE_EVERY_S = 30.0

Progress = Callable[[str, int, int], None]
"""Called with the stage, and how much is done of how much."""


def quieten() -> None:
    """Keep transformers from printing."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


@contextmanager
def show_progress(stages: Mapping[str, str], unit: str) -> Iterator[Progress]:
    """Give a callable for a run to report each step: a bar with the time left on a terminal, plain lines otherwise."""
    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        yield _lines(stages, unit)
        return
    console.print(f"Progress counts {unit}.")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with rich.progress.Progress(*columns, console=console) as bar:
        bars = {stage: bar.add_task(name, visible=False) for stage, name in stages.items()}
        yield lambda stage, done, of: bar.update(bars[stage], completed=done, total=of, visible=True)


def _lines(stages: Mapping[str, str], unit: str) -> Progress:
    """Say what a stage counts, its first estimate of the time after a step, then a line from time to time."""
    starts: dict[str, tuple[float, int]] = {}
    next_s = 0.0

    def show(stage: str, done: int, of: int) -> None:
        nonlocal next_s
        now_s, is_new = time.monotonic(), stage not in starts
        start_s, first = starts.setdefault(stage, (now_s, done))
        if is_new:
            print(f"{stages[stage]}: {of:,} {unit}, {done:,} done", file=sys.stderr, flush=True)
            next_s = 0.0
        elif now_s >= next_s or done == of:
            next_s = now_s + _LINE_EVERY_S
            left_s = (of - done) * (now_s - start_s) / max(1, done - first)
            minutes = f"about {left_s / 60:.0f} min" if left_s >= 60 else "less than a minute"
            left = f", {minutes} left" if done < of else ""
            print(f"{stages[stage]}: {done:,} of {of:,}{left}", file=sys.stderr, flush=True)

    return show
