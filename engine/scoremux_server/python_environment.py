"""The folder in which Triton's Python backend would unpack environments, and which it leaves when it is killed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_PLACE, _NAMES = Path("/tmp"), "python_env_*"


class PythonEnvironment:
    """Knows the folder of the Triton that is started next: the one that is there once models are loaded and was not.

    Where there are two of them, the other is another Triton's, and none is touched: then `unclear`.
    """

    def __init__(self, place: Path = _PLACE) -> None:
        self._place = place
        self._before = self._seen()
        self._own: Path | None = None
        self._looked = self.unclear = False

    def look(self) -> None:
        """Find it: the sooner after the start, the fewer other Tritons have started since. Later calls do nothing."""
        if self._looked:
            return
        self._looked = True
        new = self._seen() - self._before
        self.unclear = len(new) > 1
        self._own = new.pop() if len(new) == 1 else None

    def remove(self) -> None:
        """Remove it, if it was found and is empty. Triton, and all it started, must be dead."""
        # Not looked for now: a Triton that ended before it had loaded removed its own, and this would be another's.
        if self._own:
            with contextlib.suppress(OSError):
                self._own.rmdir()

    def _seen(self) -> set[Path]:
        seen = set()
        for path in self._place.glob(_NAMES):
            with contextlib.suppress(OSError):
                if path.lstat().st_uid == os.geteuid():
                    seen.add(path)
        return seen
