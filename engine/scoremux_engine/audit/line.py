"""How lines of the audit log begin, by which they are told from those of any other file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

_BEGINNING = b'{"time":"0000-00-00T00:00:00.000000Z","digest":"'
BEGINNING_BYTES = len(_BEGINNING)
_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)


def beginning(now: datetime, digest: str) -> Mapping[str, Any]:
    """Return what each line says first. now: in UTC."""
    return {"time": now.isoformat(timespec="microseconds").replace("+00:00", "Z"), "digest": digest}


def begins_one(start: bytes) -> bool:
    """Whether these bytes may be the first ones of a line, or all that there is of one."""
    start = start[:BEGINNING_BYTES].translate(_ZEROS)
    return bool(start) and _BEGINNING.startswith(start)
