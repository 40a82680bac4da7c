"""The layout of an audit log: how each line that a server writes begins, and the digest that it has of a text.

Digests are erased where they are, while the server goes on.
"""

import hashlib
import hmac
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from scoremux_files.errors import InputError, parsing, reading, writing

CANARY_TEXT = "This is a canary."
"""What a watcher has its server score again and again."""

_FORMAT = b'{"format":1,"time":"'
TIME = slice(len(_FORMAT), len(_FORMAT) + len("0000-00-00T00:00:00.000000Z"))
"""Where a line has its time."""

_BEGINNING = _FORMAT + b'0000-00-00T00:00:00.000000Z","digest":"'
BEGINNING_BYTES = len(_BEGINNING)
_HEX = 64
_KEYED = b"hmac-sha256:"
_DIGEST = re.compile(rb"(hmac-)?sha256:[0-9a-f]{64}")
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


def log_files(path: Path) -> list[Path]:
    """Return the files of a log, oldest first: those that it was renamed to, and the one that grows."""
    return [*sorted(path.parent.glob(f"{path.name}.*Z")), path]


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a log, oldest first, but not half a line at its end. Raises InputError."""
    for file in log_files(path):
        with reading(file), file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.endswith(b"\n"):
                    with parsing(f"{file}, line {number}: it is not a line of an audit log"):
                        yield json.loads(line)


def erase_digests(path: Path, digests: Collection[str], before: datetime | None = None) -> int:
    """Overwrite digests of an audit log by zeros where they are, in the file and those that it was renamed to.

    A server may append meanwhile, and a crash costs nothing: the next run overwrites the rest.

    Args:
        before: The digests of lines before this time are overwritten too.

    Returns:
        How many were overwritten.

    Raises:
        InputError: the log cannot be read or written, a line is not as a server writes it, or the log has digests with
            a key and `digests` does not.
    """
    limit = time_of_line(before).encode() if before else b""
    names, overwritten = {digest.encode() for digest in digests}, 0
    for file in log_files(path):
        with writing(file), file.open("r+b") as log:
            for offset, time, digest in _digests(file, log):
                if digest.startswith(_KEYED) and names and not any(n.startswith(_KEYED) for n in names):
                    raise InputError(f"the digests of {file} have a key; give it with --audit-key-file")
                if digest in names or time < limit:
                    place = offset + BEGINNING_BYTES + len(digest) - _HEX
                    overwritten += os.pwrite(log.fileno(), b"0" * _HEX, place) > 0 and digest[-_HEX:] != b"0" * _HEX
            os.fsync(log.fileno())
    return overwritten


def _digests(path: Path, log: Any) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield offset, time and digest of the lines. Raises InputError for a line that is not as a server writes it."""
    offset = 0
    for number, line in enumerate(log, start=1):
        digest = line[BEGINNING_BYTES:].partition(b'"')[0]
        if begins_one(line[:BEGINNING_BYTES]) and _DIGEST.fullmatch(digest):
            yield offset, line[TIME], digest
        elif line.endswith(b"\n"):  # the last line may be incomplete while a server writes it
            raise InputError(
                f"{path}, line {number}: not as a server writes its audit log; erase in the server's own file, and "
                "delete copies that another program has written"
            )
        offset += len(line)
