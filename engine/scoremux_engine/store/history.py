"""`history.jsonl`: every change of a task's live version, one line each, appended and never rewritten."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from scoremux_engine.errors import PackageError, StoreError
from scoremux_engine.packages.span import open_span
from scoremux_files.atomic import append, replace_file
from scoremux_files.settings import parse_object

_LINE_MOST_BYTES = 1 << 16
_INTENT_MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class Change:
    """One task's version before and after. `before` is None for a task that was not live, `after` for one retired."""

    task: str
    before: str | None
    after: str | None

    @property
    def kind(self) -> str:
        if self.before == self.after:
            return "unchanged"
        if self.before is None:
            return "new"
        return "retired" if self.after is None else "updated"


@dataclass(frozen=True)
class Entry:
    """One line: a change, when it was made (with its UTC offset) and by whom."""

    when: datetime
    who: str
    change: Change

    def to_json(self) -> dict[str, Any]:
        """Return the line's content."""
        when = self.when.isoformat(timespec="milliseconds")
        change = self.change
        return {"when": when, "who": self.who, "task": change.task, "from": change.before, "to": change.after}

    @classmethod
    def parse(cls, line: bytes) -> Entry:
        """Parse a line. Raises ValueError."""
        row = parse_object(line)
        try:
            change = Change(row["task"], row["from"], row["to"])
            entry = cls(datetime.fromisoformat(row["when"]).astimezone(timezone.utc), row["who"], change)
        except (KeyError, TypeError) as error:
            raise ValueError("is not a line of history") from error
        if not isinstance(change.task, str) or not all(
            isinstance(v, str | None) for v in (change.before, change.after)
        ):
            raise ValueError("is not a line of history")
        return entry


class _Intent(BaseModel):
    """Lines to append at `history_bytes` once the manifest's sha256 is `manifest`."""

    manifest: str
    history_bytes: int
    lines: str


class History:
    """The history of the store in `folder`.

    A change has three steps: its lines are written to a file of their own (the intent), the manifest is replaced, and
    the lines are appended here. After a crash in between, the next writer appends the missing lines if the manifest was
    replaced, and drops the intent if not.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "history.jsonl"
        self._intent = folder / ".intent.json"

    def lines(self) -> Iterator[tuple[int, Entry | None]]:
        """Yield each whole line's number and entry, oldest first; None for one that is damaged.

        A last line without its end is still being written, and is left out.
        """
        try:
            with open_span(self.path) as span, os.fdopen(os.dup(span.fd), "rb") as file:
                lines = iter(lambda: file.readline(_LINE_MOST_BYTES), b"")
                for number, line in enumerate(lines, start=1):
                    if line.endswith(b"\n") or len(line) == _LINE_MOST_BYTES:
                        yield number, _entry_or_none(line)
        except FileNotFoundError:
            return
        except PackageError as error:
            raise StoreError(str(error)) from error

    def entries(self, task: str | None = None) -> list[Entry]:
        """Return the entries, oldest first, of one task if it is given."""
        return [e for _, e in self.lines() if e is not None and task in (None, e.change.task)]

    def record_intent(self, changes: Sequence[Change], manifest: bytes) -> None:
        """Record the lines to append once the manifest has this content."""
        now, who = datetime.now(timezone.utc), _user()
        lines = "".join(json.dumps(Entry(now, who, change).to_json()) + "\n" for change in changes)
        size = self._size()
        if size and not self._ends_whole(size):
            lines = "\n" + lines  # half a line of another program's must not swallow ours
        intent = _Intent(manifest=hashlib.sha256(manifest).hexdigest(), history_bytes=size, lines=lines)
        replace_file(self._intent, [intent.model_dump_json().encode()])

    def recover(self, manifest: bytes | None) -> None:
        """Append the missing lines of an intent whose manifest is in place; then remove the intent."""
        try:
            with open_span(self._intent) as span:
                intent = _Intent.model_validate_json(span.read_whole(_INTENT_MOST_BYTES))
        except FileNotFoundError:
            return
        except PackageError as error:
            raise StoreError(str(error)) from error
        except ValidationError:
            # It appears whole by a rename, so this is not ours.
            self._intent.unlink()
            return
        if manifest is not None and hashlib.sha256(manifest).hexdigest() == intent.manifest:
            missing = intent.lines.encode()[max(0, self._size() - intent.history_bytes) :]
            if missing:
                append(self.path, missing)
        self._intent.unlink()

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _ends_whole(self, size: int) -> bool:
        with self.path.open("rb") as file:
            file.seek(size - 1, os.SEEK_SET)
            return file.read(1) == b"\n"


def _entry_or_none(line: bytes) -> Entry | None:
    try:
        return Entry.parse(line)
    except ValueError:
        return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
