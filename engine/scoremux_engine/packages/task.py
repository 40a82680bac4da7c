"""`task.json`: the description of a task, with its levels, texts and input."""

from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from scoremux_client.contract import TASK_ID_PATTERN
from scoremux_engine.errors import PackageError
from scoremux_engine.model.inputs import FIELDS, Input, Layout, ModelInput
from scoremux_files.settings import parse_model

MOST_LEVELS = 1000
TaskId = Annotated[str, Field(pattern=f"^{TASK_ID_PATTERN}$")]
_FLOAT32_MAX = 3.4028234663852886e38


class Task(BaseModel, extra="forbid", frozen=True):
    """One assessment item.

    id: letters, digits, ``.``, ``_``, ``-``; at most 128.
    levels: the points that level 0, 1, … L−1 stand for, ascending.
    language, question, reference, rubric: for people, and for an `input` that names them.
    input: the text around a response; None: the response alone.
    untrained: whether the adapter was trained on other tasks alone; people get all of the task's responses.
    """

    id: TaskId
    levels: tuple[float, ...] = Field(min_length=2, max_length=MOST_LEVELS)
    language: str = ""
    question: str = ""
    reference: str = ""
    rubric: str = ""
    input: Input | None = None
    untrained: bool = False

    @field_validator("levels")
    @classmethod
    def _ascending(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if not all(abs(level) <= _FLOAT32_MAX for level in levels) or any(a >= b for a, b in pairwise(levels)):
            raise ValueError("levels must be finite float32 numbers and ascending")
        return levels

    @field_validator("input")
    @classmethod
    def _complete(cls, layout: Input | None, info: ValidationInfo) -> Input | None:
        if layout is not None and set(FIELDS) <= set(info.data):  # else a field is wrong, and named
            Layout.of(layout, info.data)
        return layout

    @cached_property
    def layout(self) -> Layout | None:
        """The text around a response; None where the model sees the response alone."""
        return None if self.input is None else Layout.of(self.input, {name: getattr(self, name) for name in FIELDS})

    def render(self, response: str) -> ModelInput:
        """Return the tokenizer's input for a response."""
        return response if self.layout is None else self.layout.render(response)

    @classmethod
    def parse(cls, data: bytes, path: Path) -> "Task":
        """Parse `task.json`, read from `path`. Raises PackageError naming the key that is wrong."""
        try:
            return parse_model(cls, data)
        except ValueError as error:
            raise PackageError(f"{path}: {error}") from error
