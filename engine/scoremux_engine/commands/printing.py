"""Tables and JSON on standard output."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console

from scoremux_files.terminal import print_table

SHORT = 12
"""Letters of a digest that a table shows; commands take digests cut like that."""


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "", **layout: Any) -> None:
    """Print a table on standard output; layout: as for `print_table`."""
    print_table(Console(highlight=False), columns, rows, title=title, **layout)


def show_result(as_json: bool, value: Any, *table: Any, **layout: Any) -> None:
    """Print a value as JSON, or the same as a table, which `show_table` takes."""
    if as_json:
        print(json.dumps(value, ensure_ascii=False))
    else:
        show_table(*table, **layout)


def short(digest: str | None) -> str:
    return digest[:SHORT] if digest else "–"
