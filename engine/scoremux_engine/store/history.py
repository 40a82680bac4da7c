"""`history.jsonl`: every change of a store, one line a version, appended and never rewritten."""

import getpass
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, PlainSerializer, ValidationError

from scoremux_engine.errors import StoreError
from scoremux_engine.store.manifest import MAX_MANIFEST_BYTES, StoreFile
from scoremux_files.atomic import append, replace_file
from scoremux_files.digests import open_file, read_file
from scoremux_files.errors import reading

HISTORY_JSONL = "history.jsonl"
_LINE_MOST_BYTES = 1 << 16
_INTENT_MOST_BYTES = 256 << 20
_Milliseconds = Annotated[AwareDatetime, PlainSerializer(lambda when: when.isoformat(timespec="milliseconds"))]


@dataclass(frozen=True)
class Change:
    """The live version of one task before and after.

    Attributes:
        before: Digest of the version before; None for a task that was not live.
        after: Digest of the version after; None for a task that was retired.
    """

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


class HistoryLine(StoreFile):
    """One line: the change that a command made to one version.

    Attributes:
        who: The user of the operating system, or the person who is named with --by.
        before: Digest of the live version before; of a version that is unpinned.
        after: Digest of the live version after; of a version that is pinned.
    """

    when: _Milliseconds
    who: str
    action: Literal["add", "rollback", "retire", "pin", "unpin", "hold", "release"]
    task: str
    before: str | None = Field(alias="from")
    after: str | None = Field(alias="to")

    @property
    def is_live_change(self) -> bool:
        """Whether another version became live; pins change none."""
        return self.action not in ("pin", "unpin")


class _Intent(StoreFile):
    """Lines to append at `history_bytes` once the file `name` has the digest `sha256`."""

    name: Literal["manifest.json", "pins.json"] = "manifest.json"
    sha256: str
    history_bytes: int
    lines: str


class History:
    """The history of the store in `folder`.

    A change has three steps: its lines are written to a file of their own (the intent), the manifest or the pins are
    replaced, and the lines are appended here. After a crash in between, the next writer appends the missing lines if
    the file was replaced, and drops the intent if not.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / HISTORY_JSONL
        self._folder = folder
        self._intent = folder / ".intent.json"

    def lines(self) -> Iterator[tuple[int, HistoryLine | None]]:
        """Yield the number and content of each whole line, oldest first; None for one that is damaged.

        A last line without its end is still being written, and is left out.
        """
        with reading(self.path, StoreError):
            try:
                file = open_file(self.path)
            except FileNotFoundError:
                return
            with file:
                for number, line in enumerate(iter(lambda: file.readline(_LINE_MOST_BYTES), b""), start=1):
                    if line.endswith(b"\n") or len(line) == _LINE_MOST_BYTES:
                        yield number, _parse(line)

    def entries(self, task: str | None = None) -> list[HistoryLine]:
        """Return the lines that are not damaged, oldest first, of one task if it is given."""
        return [line for _, line in self.lines() if line is not None and task in (None, line.task)]

    def record_intent(self, action: str, changes: Sequence[Change], content: bytes, who: str = "") -> None:
        """Record the lines to append once the manifest has been replaced by `content`."""
        stated = {"when": datetime.now(timezone.utc), "who": who or _user(), "action": action}
        lines = ""
        for change in changes:
            versions = {"task": change.task, "from": change.before, "to": change.after}
            line = HistoryLine.model_validate(stated | versions)
            lines += line.model_dump_json(by_alias=True) + "\n"
        digest = hashlib.sha256(content).hexdigest()
        intent = _Intent(sha256=digest, history_bytes=self._size(), lines=lines)
        replace_file(self._intent, [intent.to_json()])

    def recover(self) -> None:
        """Append the missing lines of an intent whose file was replaced; then remove the intent. Raises StoreError."""
        with reading(self._intent, StoreError):
            try:
                data = read_file(self._intent, _INTENT_MOST_BYTES)
            except FileNotFoundError:
                return
        try:
            intent = _Intent.model_validate_json(data)
        except ValidationError:
            # It appears whole by a rename, so another program wrote it.
            self._intent.unlink()
            return
        if self._is_replaced(intent):
            missing = intent.lines.encode()[max(0, self._size() - intent.history_bytes) :]
            if missing:
                append(self.path, missing)
        self._intent.unlink()

    def _is_replaced(self, intent: _Intent) -> bool:
        try:
            content = read_file(self._folder / intent.name, MAX_MANIFEST_BYTES)
        except FileNotFoundError:
            return False
        return hashlib.sha256(content).hexdigest() == intent.sha256

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0


def _parse(line: bytes) -> HistoryLine | None:
    try:
        return HistoryLine.model_validate_json(line)
    except ValidationError:
        return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
