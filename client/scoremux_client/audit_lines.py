"""The layout of an audit log: how each line that a server writes begins, and the digest that it has of a text."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

CANARY_TEXT = "This is a canary."
"""What a watcher has its server score again and again."""

_FORMAT = b'{"format":1,"time":"'
TIME = slice(len(_FORMAT), len(_FORMAT) + len("0000-00-00T00:00:00.000000Z"))
"""Where a line has its time."""

_BEGINNING = _FORMAT + b'0000-00-00T00:00:00.000000Z","digest":"'
BEGINNING_BYTES = len(_BEGINNING)
_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)


def beginning(now: datetime, digest: str) -> Mapping[str, Any]:
    """Return the first members of each line. now: in UTC."""
    return {"format": 1, "time": time_of_line(now), "digest": digest}


def begins_one(start: bytes) -> bool:
    """Whether these bytes may be the first ones of a line, or all that there is of one."""
    fixed, varied = start[: len(_FORMAT)], start[len(_FORMAT) : BEGINNING_BYTES]
    return bool(start) and _BEGINNING.startswith(fixed + varied.translate(_ZEROS))


def text_digest(text: bytes, key: bytes | None) -> str:
    """Return the digest that a line has of a text. key: of the HMAC; None for plain SHA-256."""
    if key is None:
        return f"sha256:{hashlib.sha256(text).hexdigest()}"
    return f"hmac-sha256:{hmac.digest(key, text, 'sha256').hex()}"


def time_of_line(time: datetime) -> str:
    """Return a time as lines have it."""
    return time.astimezone(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
