"""Helpers of all commands: options as a dataclass, and tables of which no cell is ever cut. Needs the extra `cli`."""

import inspect
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, Literal, TypeVar

from rich.box import HEAVY_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

_LEAST_FOLDED = 24
"""Room that a column keeps whose cells are folded."""


Options = TypeVar("Options")


def deprecated(name: str, instead: str, ends: str) -> None:
    """Say on standard error until which version a command, an option or a key works, and what replaces it."""
    print(f"scoremux: {name} is deprecated and ends with version {ends}: use {instead}", file=sys.stderr)


def takes(options: type[Options]) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Give a command the fields of a dataclass, annotated for typer, as its options."""

    def decorate(run: Callable[[Options], None]) -> Callable[..., None]:
        @wraps(run)
        def command(*values: Any, **named: Any) -> None:
            run(options(*values, **named))

        command.__signature__ = inspect.signature(options, eval_str=True)  # type: ignore[attr-defined]
        return command

    return decorate


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 row", "2,000 rows"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@contextmanager
def ticking(console: Console, what: str, every_s: float = 10.0) -> Iterator[None]:
    """Print a line every few seconds until a long step is done."""
    started, done = time.monotonic(), threading.Event()

    def tick() -> None:
        while not done.wait(every_s):
            console.print(f"{what}: {time.monotonic() - started:.0f} s so far")

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def printable(text: str) -> str:
    """Return a text without control characters, which mean something to a terminal."""
    return "".join(c if c.isprintable() else "�" for c in text)


def print_table(
    console: Console,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str = "",
    numbers: Collection[str] = (),
    leave_out: Sequence[str] = (),
    fold: Collection[str] = (),
    styles: Sequence[str | None] = (),
    box: bool = True,
    notes: Iterable[str] = (),
) -> None:
    """Print a table as wide as its cells. Markup and control characters in cells mean nothing.

    On a terminal that is narrower, columns are left out and named below the table. Elsewhere there is room for all.

    Args:
        numbers: Columns that are aligned to the right.
        leave_out: Columns in the order in which they are left out, before all others from the right; never the first.
        fold: Columns whose cells take several lines where they do not fit.
        notes: Sentences below the table.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    if not console.is_terminal:
        console.width = max(console.width, sum(widths) + 3 * len(widths) + 1)
    needed = [min(w, _LEAST_FOLDED) if name in fold else w for name, w in zip(columns, widths, strict=True)]
    shown = _places_that_fit(columns, needed, leave_out, console.width, box)
    table = Table(box=HEAVY_HEAD if box else None, pad_edge=box, padding=(0, 1) if box else (0, 1, 0, 0))
    for place in shown:
        folded = columns[place] in fold or len(shown) == 1
        name = Text(columns[place])
        justify: Literal["left", "right"] = "right" if columns[place] in numbers else "left"
        table.add_column(name, justify=justify, no_wrap=not folded, overflow="fold")
    for number, row in enumerate(cells):
        style = styles[number] if number < len(styles) else None
        table.add_row(*(Text(row[place]) for place in shown), style=style)
    print_notes(console, [title] if title else [])
    console.print(table)
    if len(shown) < len(columns):
        names = ", ".join(name for place, name in enumerate(columns) if place not in shown)
        print_notes(console, [f"left out at this width: {names}"])
    print_notes(console, notes)


def print_notes(console: Console, notes: Iterable[str]) -> None:
    """Print sentences, which wrap where the terminal does. Markup in them means nothing."""
    for note in notes:
        console.print(Text(note), soft_wrap=True)


def _places_that_fit(
    columns: Sequence[str], widths: Sequence[int], leave_out: Sequence[str], most: int, box: bool
) -> list[int]:
    order = [columns.index(name) for name in leave_out if name in columns]
    order += [place for place in reversed(range(1, len(columns))) if place not in order]
    shown = list(range(len(columns)))
    for place in order:
        if sum(widths[i] for i in shown) + (3 * len(shown) + 1 if box else len(shown)) <= most:
            break
        shown.remove(place)
    return shown
