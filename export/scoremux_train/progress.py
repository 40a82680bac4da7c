"""How far training is: a bar with the time left on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from scoremux_train.run import Progress as Told

_LINE_EVERY_S = 30.0
_NAMES = {"start": "shared start", "tasks": "tasks and folds"}


@contextmanager
def showing() -> Iterator[Told]:
    """Give what `Run.fit` calls after each step."""
    console = Console(stderr=True, highlight=False)
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            shown = {stage: bar.add_task(name, visible=False) for stage, name in _NAMES.items()}
            yield lambda stage, done, of: bar.update(shown[stage], completed=done, total=of, visible=True)
    else:
        yield _lines()


def _lines() -> Told:
    began: dict[str, tuple[float, int]] = {}
    last = [time.monotonic()]

    def tell(stage: str, done: int, of: int) -> None:
        now = time.monotonic()
        began_s, first = began.setdefault(stage, (now, done))
        if now - last[0] >= _LINE_EVERY_S or done == of:
            last[0] = now
            rate = (done - first) / (now - began_s) if now > began_s else 0.0
            left = f", {(of - done) / rate / 60:.0f} min left" if rate and done < of else ""
            print(f"{_NAMES[stage]}: {done:,} of {of:,} rows × epochs{left}", file=sys.stderr, flush=True)

    return tell
