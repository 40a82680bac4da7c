"""`task.json`: what a task says of itself."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from scoremux_client.contract import TASK_ID_PATTERN
from scoremux_engine.errors import PackageError

TASK_JSON = "task.json"
MAX_JSON_BYTES = 1 << 20
TaskId = Annotated[str, Field(pattern=f"^{TASK_ID_PATTERN}$")]
_FLOAT32_MAX = 3.4028234663852886e38


class Task(BaseModel):
    """One assessment item.

    id: letters, digits, ``.``, ``_``, ``-``; at most 128.
    levels: the points that level 0, 1, … L−1 stand for, ascending.
    question, language: for people; no score depends on them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: TaskId
    levels: tuple[float, ...] = Field(min_length=2, max_length=1000)
    question: str = ""
    language: str = ""

    @field_validator("levels")
    @classmethod
    def _ascending(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if not all(abs(level) <= _FLOAT32_MAX for level in levels) or any(a >= b for a, b in pairwise(levels)):
            raise ValueError("levels must be finite float32 numbers and ascending")
        return levels

    @classmethod
    def read(cls, folder: Path) -> Task:
        """Read `task.json` of a folder. Raises PackageError naming the key that is wrong."""
        path = folder / TASK_JSON
        try:
            return cls.model_validate_json(read_json_bytes(path))
        except ValidationError as error:
            raise PackageError(f"{path}: {explain(error)}") from error


def read_json_bytes(path: Path) -> bytes:
    """Return a small file's bytes. Raises PackageError where it is missing, unreadable or too big to be sane."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise PackageError(f"{path} is larger than {MAX_JSON_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise PackageError(f"{path} cannot be read: {error.strerror}") from error


def explain(error: ValidationError) -> str:
    """Return pydantic's complaints as one line: ``key: what is wrong; …``."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
