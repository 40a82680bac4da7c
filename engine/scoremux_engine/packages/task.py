"""`task.json`: what a task says of itself."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from scoremux_client.contract import TASK_ID_PATTERN
from scoremux_engine.errors import PackageError
from scoremux_engine.packages.json_object import parse_model
from scoremux_engine.packages.source import TASK_JSON, Folder

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
    def parse(cls, data: bytes, path: Path) -> Task:
        """Parse `task.json`, read from `path`. Raises PackageError naming the key that is wrong."""
        try:
            return parse_model(cls, data)
        except ValueError as error:
            raise PackageError(f"{path}: {error}") from error

    @classmethod
    def read(cls, folder: Path) -> Task:
        """Read `task.json` of a folder. Raises PackageError naming the key that is wrong."""
        with Folder(folder).span(TASK_JSON) as span:
            return cls.parse(span.read_whole(MAX_JSON_BYTES), span.path)
