"""What the slow tests found: a page with a row for each figure and processor."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import date
from pathlib import Path

from scoremux_engine.model.provenance import processor_name

HEAD = """\
# Results of the slow tests

`make slow` runs them all; each writes its figure here. Every processor keeps its newest figure.

| what | figure | processor | command | taken |
|---|---|---|---|---|
"""

Result = Callable[[str, str], None]
Scaled = Callable[[int], int]


def keep(page: Path, what: str, figure: str, command: str) -> None:
    """Write a row into the page, in place of this processor's row of the same name."""
    rows = page.read_text(encoding="utf-8").removeprefix(HEAD).splitlines() if page.exists() else []
    where = f"{processor_name()}, {len(os.sched_getaffinity(0))} cores"
    what, figure = (text.replace("|", r"\|") for text in (what, figure))
    rows = [row for row in rows if not (row.startswith(f"| {what} |") and f"| {where} |" in row)]
    rows.append(f"| {what} | {figure} | {where} | `{command}` | {date.today().isoformat()} |")
    page.write_text(HEAD + "\n".join(sorted(rows)) + "\n", encoding="utf-8")
