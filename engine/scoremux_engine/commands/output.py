"""Tables and JSON on standard output."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from scoremux_engine.store.history import Change

SHORT = 12
"""Letters of a digest that a table shows; commands take digests cut like that."""


def show_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, ensure_ascii=False))


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None, cut: str | None = None
) -> None:
    """Print a table; the column named `cut` is cut to one line where there is no room.

    Cells may hold what strangers wrote: markup and control characters in them mean nothing.
    """
    table = Table(title=title, expand=cut is not None)
    for name in columns:
        last = name == cut  # takes what room the others leave
        table.add_column(name, overflow="ellipsis" if last else "fold", no_wrap=last, ratio=1 if last else None)
    for row in rows:
        table.add_row(*map(_harmless, row))
    Console(markup=False, highlight=False, emoji=False).print(table)


def show_changes(changes: Sequence[Change], as_json: bool, dry_run: bool) -> None:
    """Print what a change of the store did, or would do."""
    if as_json:
        rows = [{"task": c.task, "change": c.kind, "from": c.before, "to": c.after} for c in changes]
        show_json([{**row, "dry_run": True} for row in rows] if dry_run else rows)
        return
    cells = [(c.task, c.kind, short(c.before), short(c.after)) for c in changes]
    show_table(
        ("task", "change", "from", "version"), cells, title="nothing was changed (--dry-run)" if dry_run else None
    )


def short(digest: str | None) -> str:
    """Return a digest as tables show it."""
    return digest[:SHORT] if digest else "–"


def _harmless(text: str) -> str:
    return "".join(letter if letter.isprintable() else "�" for letter in text)
