"""Tables and JSON on standard output."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

SHORT = 12
"""Letters of a digest that a table shows; commands take digests cut like that."""

_WIDEST = 1 << 14


def show_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, ensure_ascii=False))


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None, cut: str | None = None
) -> None:
    """Print a table. Markup and control characters in its cells mean nothing.

    Args:
        columns: Their headings.
        rows: Cells by column.
        title: A line above the table.
        cut: The column that is cut to one line where there is no room. Where there is no terminal, there is room.
    """
    console = Console(markup=False, highlight=False, emoji=False)
    table = Table(title=title, expand=cut is not None and console.is_terminal)
    for name in columns:
        last = name == cut  # takes what room the others leave
        table.add_column(name, overflow="ellipsis" if last else "fold", no_wrap=last, ratio=1 if last else None)
    for row in rows:
        table.add_row(*("".join(c if c.isprintable() else "�" for c in cell) for cell in row))
    if not console.is_terminal:
        console.width = max(
            console.width, console.measure(table, options=console.options.update(width=_WIDEST)).maximum
        )
    console.print(table)


def short(digest: str | None) -> str:
    """Return a digest as tables show it."""
    return digest[:SHORT] if digest else "–"
