"""Files that are loaded again when they change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from scoremux_files.digests import Stamp

_RETRY_S = 2.0


class FollowedFiles:
    """Loads files when they change, and again every `_RETRY_S` while that fails."""

    def __init__(self, files: Callable[[], Iterable[Path]], load: Callable[[], None], report: Callable[[str], None]):
        """Take the files as loaded.

        Args:
            files: Returns their paths, which may change when they are loaded.
            load: Loads them; where it raises, what was loaded before stays in use.
            report: Called once with a sentence for each failure.
        """
        self._files = files
        self._load = load
        self._report = report
        self._stamps = self._read_stamps()
        self._failure, self._tried_at = "", 0.0

    def forget(self) -> None:
        """Load them again at the next look."""
        self._stamps = {}

    def look(self) -> None:
        """Load the files if they have changed."""
        stamps = self._read_stamps()
        if stamps == self._stamps and not (self._failure and time.monotonic() - self._tried_at > _RETRY_S):
            return
        self._stamps, self._tried_at = stamps, time.monotonic()
        try:
            self._load()
        except Exception as error:
            before, self._failure = self._failure, str(error) or type(error).__name__
            if self._failure != before:
                self._report(f"the front door keeps its files of before: {self._failure}")
            return
        self._failure = ""
        # Other files may be named now.
        self._stamps = {file: stamps.get(file, stamp) for file, stamp in self._read_stamps().items()}

    def _read_stamps(self) -> dict[Path, Stamp | None]:
        return {file: _stamp(file) for file in self._files()}


def _stamp(file: Path) -> Stamp | None:
    """Return the stamp of a file, None where it is missing."""
    try:
        return Stamp.of(file.stat())
    except OSError:
        return None
