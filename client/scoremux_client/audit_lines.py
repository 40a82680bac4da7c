"""The layout of an audit log: how each line that a server writes begins, and the digest that it has of a text.

Digests are erased where they are, while the server goes on.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from scoremux_files.errors import InputError, parsing, reading, writing

CANARY_TEXT = "This is a canary."
"""What a watcher has its server score again and again."""

EVENT = "EVENT"
"""STATUS of a line that is about the server and no row: its start, an alarm."""

ALARMS = "alarms-"
"""How the name of a server's log of alarms begins, beside its audit log."""

LEAST_DAYS = 183
KEEP_LOGS = "the EU's AI Act wants logs to be kept for six months or more, unless other law says otherwise"
"""What users are reminded of where logs are kept for fewer days."""

_OF_ROWS = (
    "task", "version", "status", "level", "condition", "route", "confidence", "level_range", "probabilities",
)  # fmt: skip

_FORMAT = b'{"format":1,"time":"'
TIME = slice(len(_FORMAT), len(_FORMAT) + len("0000-00-00T00:00:00.000000Z"))
"""Where a line has its time."""

_BEGINNING = _FORMAT + b'0000-00-00T00:00:00.000000Z","digest":"'
BEGINNING_BYTES = len(_BEGINNING)
_HEX = 64
_KEYED = b"hmac-sha256:"
_ERASED = b"0" * _HEX
_SALT, _SALT_HEX = b'","salt":"', 32
_DIGEST = re.compile(rb'(hmac-)?sha256:[0-9a-f]{64}(?=")')
_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)


def beginning(now: datetime, digest: str) -> Mapping[str, Any]:
    """Return the first members of each line. now: in UTC."""
    return {"format": 1, "time": time_of_line(now), "digest": digest, "salt": secrets.token_hex(_SALT_HEX // 2)}


def event_line(event: str, **facts: Any) -> dict[str, Any]:
    """Return a record of what happened to a server itself: it has the members of a row's line, and STATUS `EVENT`."""
    no_text = f"sha256:{_ERASED.decode()}"
    no_row = {**dict.fromkeys(_OF_ROWS), "status": EVENT, "condition": "", "route": ""}
    return {**beginning(datetime.now(timezone.utc), no_text), **no_row, "event": event, **facts}


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


class ChainEnd(NamedTuple):
    """Where a process's chain of lines ends.

    Attributes:
        number: Of the process's next line.
        previous: Digest of the last line, which the next one holds; empty for the first line of a log.
    """

    number: int = 0
    previous: str = ""


def chained(records: Iterable[Mapping[str, Any]], end: ChainEnd) -> tuple[bytes, ChainEnd]:
    """Return lines that follow the end of a chain, and where it ends then. records: they begin as `beginning` says."""
    lines = []
    for record in records:
        values = {**record, "number": end.number, "previous": end.previous}
        lines.append(json.dumps(values, separators=(",", ":")).encode() + b"\n")
        end = ChainEnd(end.number + 1, line_digest(lines[-1]))
    return b"".join(lines), end


def line_digest(line: bytes) -> str:
    """Return the digest by which the next line names this one: that of the line as an erasure leaves it."""
    return hashlib.sha256(_erased(line)).hexdigest()


def _erased(line: bytes) -> bytes:
    """Return a line without its text's digest, whose place gets zeros, and that of the salt a digest of both.

    So a line that was changed differs from one that was erased, and without the salt nobody can test a guess.
    """
    digest = _DIGEST.match(line, BEGINNING_BYTES)
    if not digest or digest[0].endswith(_ERASED):
        return line
    salt = digest.end()
    start, end = salt - _HEX, salt + len(_SALT) + _SALT_HEX
    if not line.startswith(_SALT, salt) or len(line) < end:  # an older scoremux wrote no salt
        return line[:start] + _ERASED + line[salt:]
    both = hashlib.sha256(line[start:end]).hexdigest()[:_SALT_HEX]
    return line[:start] + _ERASED + _SALT + both.encode() + line[end:]


class LogLine(NamedTuple):
    """A line of a log: where it is, its values, and why it does not follow the line before; empty where it does."""

    place: str
    values: dict[str, Any]
    fault: str


def log_files(path: Path) -> list[Path]:
    """Return the files of a log, oldest first: those that it was renamed to, and the one that grows."""
    return [*sorted(path.parent.glob(f"{path.name}.*Z")), path]


def read_log(path: Path) -> Iterator[LogLine]:
    """Yield the lines of a log, oldest first, but not half a line at its end. Raises InputError."""
    before: tuple[bytes, LogLine] | None = None
    for file in log_files(path):
        with reading(file), file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.endswith(b"\n"):
                    place = f"{file}, line {number}"
                    with parsing(f"{place}: it is not a line of an audit log"):
                        values = json.loads(line)
                        found = LogLine(place, values, _fault(values, *before) if before else "")
                    yield found
                    before = line, found


def _fault(values: Mapping[str, Any], line: bytes, before: LogLine) -> str:
    """Return why a line does not follow the one before; empty where it does, or both are older than chains."""
    number, last = values.get("number"), before.values.get("number")
    if number is None:
        return "" if last is None else "it has no number: an older scoremux wrote it, or somebody added it"
    if values["previous"] == line_digest(line):
        return ""
    missing = number - last - 1 if last is not None and number else 0
    return f"lines before it are missing: {missing:,}" if missing > 0 else "lines before it were changed or removed"


def erase_digests(path: Path, digests: Collection[str], before: datetime | None = None) -> int:
    """Overwrite digests of an audit log by zeros where they are, in the file and those that it was renamed to.

    Its chain stays whole. A server may append meanwhile, and a crash costs nothing: the next run overwrites the rest.

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
            for offset, line in _lines(file, log):
                digest = line[BEGINNING_BYTES:].partition(b'"')[0]
                if digest.startswith(_KEYED) and names and not any(n.startswith(_KEYED) for n in names):
                    raise InputError(f"the digests of {file} have a key; give it with --audit-key-file")
                if (digest in names or line[TIME] < limit) and not digest.endswith(_ERASED):
                    overwritten += os.pwrite(log.fileno(), _erased(line), offset) > 0
            os.fsync(log.fileno())
    return overwritten


def _lines(path: Path, log: Any) -> Iterator[tuple[int, bytes]]:
    """Yield the lines and where they begin. Raises InputError for a line that is not as a server writes it."""
    offset = 0
    for number, line in enumerate(log, start=1):
        if begins_one(line[:BEGINNING_BYTES]) and _DIGEST.match(line, BEGINNING_BYTES):
            yield offset, line
        elif line.endswith(b"\n"):  # the last line may be incomplete while a server writes it
            raise InputError(
                f"{path}, line {number}: not as a server writes its audit log; erase in the server's own file, and "
                "delete copies that another program has written"
            )
        offset += len(line)
