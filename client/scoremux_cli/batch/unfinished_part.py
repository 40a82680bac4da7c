"""The outcomes of a part that is not complete yet, saved every few seconds, so that Ctrl-C and crashes cost few rows.

The part itself is written as ever once it is complete, so that its bytes do not depend on when a job was stopped.
"""

from __future__ import annotations

import json
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from scoremux_cli.batch.slices import Slice
from scoremux_client.contract import Status
from scoremux_client.rows import Scored
from scoremux_files.atomic import replace_file
from scoremux_files.errors import writing
from scoremux_files.settings import parse_object

_NAME = ".unfinished.json"
_FORMAT = 1
_EVERY_S = 5.0
_FIELDS = [field.name for field in fields(Scored) if field.name not in ("id", "embedding")]


class UnfinishedPart:
    """The file of a job's folder that holds the first outcomes of one part."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._saved_at = time.monotonic()

    def save(self, part: Slice, scored: list[Scored]) -> None:
        """Save outcomes, if the last time is some seconds ago. Raises InputError."""
        if time.monotonic() - self._saved_at < _EVERY_S:
            return
        rows = [[getattr(outcome, name) for name in _FIELDS] for outcome in scored]
        content = {"format": _FORMAT, "part": part.number, "rows": rows}
        with writing(self._path):
            replace_file(self._path, [json.dumps(content).encode()], mode=None)
        self._saved_at = time.monotonic()

    def load(self, part: Slice) -> list[Scored]:
        """Return the outcomes of a part's first rows; none if they are of another part, or cannot be read."""
        try:
            content = parse_object(self._path.read_bytes())
            if content["format"] != _FORMAT or content["part"] != part.number or len(content["rows"]) > len(part):
                return []
            return [_outcome(dict(zip(_FIELDS, row, strict=True))) for row in content["rows"]]
        except (OSError, ValueError, KeyError, TypeError):
            return []  # the rows are scored again

    def remove(self) -> None:
        """Remove the file: its part is written."""
        with writing(self._path):
            self._path.unlink(missing_ok=True)
        self._saved_at = time.monotonic()


def _outcome(values: dict[str, Any]) -> Scored:
    values["status"] = Status(values["status"])
    values["probabilities"] = tuple(values["probabilities"])
    values["level_range"] = values["level_range"] and tuple(values["level_range"])
    return Scored(**values)
