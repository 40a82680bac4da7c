"""Slices of a JSONL file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from scoremux_cli.batch.lines import Line, read_lines
from scoremux_cli.batch.slices import Layout, Place, Slice


def read_jsonl(path: Path, layout: Layout, place: Place) -> Iterator[Slice]:
    """Yield the slices from `place` on. Blank lines are no rows."""
    rows, part, line = place.row, Slice(), None
    with path.open("rb") as file:
        for line in read_lines(file, place.offset, place.line, layout.line_bytes):
            if line.data is not None and not line.data.strip():
                continue
            rows += 1
            if reason := _take(part, line, layout, rows):
                part.reject(line.number, reason)
            if part.full(layout):
                part.after = Place(line.next, line.number, rows)
                yield part
                part = Slice()
    end = place if line is None else Place(line.next, line.number, rows)
    part.after, part.done = end, True
    yield part


def _take(part: Slice, line: Line, layout: Layout, number: int) -> str | None:
    """Add a line's row to the part, or say why not."""
    if line.data is None:
        return f"longer than {layout.line_bytes:,} bytes"
    try:
        row = json.loads(line.data.decode())
    except UnicodeDecodeError:
        return "not UTF-8"
    except (ValueError, RecursionError):
        return "not JSON"
    if not isinstance(row, dict):
        return "not a JSON object"
    task, text, given = row.get(layout.task), row.get(layout.text), row.get(layout.id)
    if not isinstance(task, str) or not isinstance(text, str):
        name, value = (layout.text, text) if isinstance(task, str) else (layout.task, task)
        return f"no {name}" if value is None else f"{name} is not text"
    if given is not None and not isinstance(given, (str, int, float)):
        return f"{layout.id} is neither text nor a number"
    part.add(str(number if given is None else given), task, text, line.number)
    return None
