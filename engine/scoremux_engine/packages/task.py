"""`task.json`: the description of a task, with its levels or traits, texts and input."""

from array import array
from functools import cached_property
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo, field_validator, model_validator

from scoremux_client.contract import MOST_FEEDBACK_BYTES, TASK_ID_PATTERN, TASK_PATTERN, TOTAL
from scoremux_decide.total import Total
from scoremux_engine.errors import PackageError
from scoremux_engine.model.inputs import FIELDS, Input, Layout, ModelInput
from scoremux_files.settings import parse_model

MOST_LEVELS = 1000
TraitName = Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,64}$")]
TaskId = Annotated[str, Field(pattern=f"^{TASK_ID_PATTERN}$")]


def _refuse_unordered(levels: tuple[float, ...]) -> tuple[float, ...]:
    points = array("f", levels)  # as SCORE has them
    if not all(map(isfinite, points)) or any(a >= b for a, b in pairwise(points)):
        raise ValueError("points must be finite and ascending, also once they are rounded to float32")
    return levels


def _refuse_unmatched(feedback: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    levels = info.data.get("levels", ())
    if len(feedback) != len(levels):
        raise ValueError(f"{len(feedback)} texts for {len(levels)} levels")
    if any(len(text.encode()) > MOST_FEEDBACK_BYTES for text in feedback):
        raise ValueError(f"a text has more than {MOST_FEEDBACK_BYTES} bytes")
    return feedback


Scale = tuple[float, ...] | tuple[tuple[str, tuple[float, ...]], ...]
"""The points of a task's levels, or the name and the points of each trait and of the total."""

Levels = Annotated[tuple[float, ...], Field(min_length=2, max_length=MOST_LEVELS), AfterValidator(_refuse_unordered)]
Feedback = Annotated[tuple[str, ...], AfterValidator(_refuse_unmatched)]


class Trait(BaseModel, extra="forbid", frozen=True):
    """One of the scores that an item asks for.

    levels: the points that level 0, 1, … L−1 stand for, ascending.
    feedback: a text for the pupil for each level.
    name: for people.
    """

    levels: Levels
    feedback: Feedback = ()
    name: str = ""


class Task(BaseModel, extra="forbid", frozen=True):
    """One assessment item.

    id: letters, digits, ``.``, ``_``, ``-``; at most 128.
    levels, feedback: as a trait's; absent where there are traits.
    traits: the scores that the item asks for, by name: each has its levels in the head's output, one trait after the
        other. Rows name a trait as a task: ``essay-1.grammar``.
    total: how the traits make a total, which rows name as ``essay-1.total``.
    language, question, reference, rubric: for people, and for an `input` that names them.
    input: the text around a response; None: the response alone.
    untrained: whether the adapter was trained on other tasks alone; people get all of the task's responses.
    """

    id: TaskId
    levels: Levels = ()
    feedback: Feedback = ()
    traits: dict[TraitName, Trait] = Field(default={}, min_length=2, max_length=64)
    total: Total | None = None
    language: str = ""
    question: str = ""
    reference: str = ""
    rubric: str = ""
    input: Input | None = None
    untrained: bool = False

    @model_validator(mode="after")
    def _levels_or_traits(self) -> "Task":
        if bool(self.levels) == bool(self.traits):
            raise ValueError("give either `levels` or `traits`")
        if TOTAL in self.traits:
            raise ValueError(f"traits: `{TOTAL}` is the name of the total; rename the trait")
        if self.total and not self.traits:
            raise ValueError("total: there are no traits")
        if self.total:
            try:
                _refuse_unordered(self.total.values(self._levels, MOST_LEVELS))
            except (ValueError, OverflowError) as error:
                raise ValueError(f"total: {error}") from error
        if not TASK_PATTERN.fullmatch(longest := max(self.scales, key=len)):
            raise ValueError(f"id: {longest} has more than 128 characters; shorten the id or the name of the trait")
        return self

    @field_validator("input")
    @classmethod
    def _complete(cls, layout: Input | None, info: ValidationInfo) -> Input | None:
        if layout is not None and set(FIELDS) <= set(info.data):  # else a field is wrong, and named
            Layout.of(layout, info.data)
        return layout

    @property
    def _levels(self) -> dict[str, tuple[float, ...]]:
        return {name: trait.levels for name, trait in self.traits.items()}

    @cached_property
    def slices(self) -> dict[str, tuple["Task", int, int]]:
        """Each trait, and the total, as a task of its own, by its name; and its part of the head's output: from, to."""
        slices, first = dict[str, tuple[Task, int, int]](), 0
        for name, trait in self.traits.items():
            slices[name] = self._as_task(name, trait.levels, trait.feedback), first, first + len(trait.levels)
            first += len(trait.levels)
        if self.total:
            totals = self.total.values(self._levels, MOST_LEVELS)
            slices[TOTAL] = self._as_task(TOTAL, totals, (), self.total), 0, first
        return slices

    def _as_task(
        self, name: str, levels: tuple[float, ...], feedback: tuple[str, ...], total: Total | None = None
    ) -> "Task":
        return self.model_copy(
            update={"id": f"{self.id}.{name}", "levels": levels, "feedback": feedback, "traits": {}, "total": total}
        )

    @property
    def scale(self) -> Scale:
        """The levels, or those of each trait and the total."""
        return tuple((name, own.levels) for name, (own, _, _) in self.slices.items()) or self.levels

    @property
    def width(self) -> int:
        """How many levels there are, of all traits together."""
        return len(self.levels) or sum(len(trait.levels) for trait in self.traits.values())

    @cached_property
    def layout(self) -> Layout | None:
        """The text around a response; None where the model sees the response alone."""
        return None if self.input is None else Layout.of(self.input, {name: getattr(self, name) for name in FIELDS})

    def render(self, response: str) -> ModelInput:
        """Return the tokenizer's input for a response."""
        return response if self.layout is None else self.layout.render(response)

    @property
    def scales(self) -> dict[str, tuple[float, ...]]:
        """The levels by the id that rows name: the task's own, or those of its traits and their total."""
        return {own.id: own.levels for own, _, _ in self.slices.values()} or {self.id: self.levels}

    @classmethod
    def parse(cls, data: bytes, path: Path) -> "Task":
        """Parse `task.json`, read from `path`. Raises PackageError naming the key that is wrong."""
        try:
            return parse_model(cls, data)
        except ValueError as error:
            raise PackageError(f"{path}: {error}") from error
