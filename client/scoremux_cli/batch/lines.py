"""Lines of a file, none longer in memory than a limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_BOM = b"\xef\xbb\xbf"
_SKIP_BYTES = 1 << 20


class Line(NamedTuple):
    """A line with its end. number: from 1; offset, next: where it begins and ends, in bytes; data: None if too long."""

    number: int
    offset: int
    next: int
    data: bytes | None


def read_lines(file: BinaryIO, offset: int, number: int, limit_bytes: int) -> Iterator[Line]:
    """Yield the lines from `offset` on, which is the start of line `number` + 1. A byte order mark is left out."""
    file.seek(offset)
    while data := file.readline(limit_bytes + 1):
        number += 1
        end, kept = offset + len(data), True
        while len(data) > limit_bytes or not kept:
            # What is left of a long line is read past in pieces.
            kept = False
            if data.endswith(b"\n") or not (data := file.readline(_SKIP_BYTES)):
                break
            end += len(data)
        if kept and offset == 0:
            data = data.removeprefix(_BOM)
        yield Line(number, offset, end, data if kept else None)
        offset = end
