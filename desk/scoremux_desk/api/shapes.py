"""The shapes of rows in requests and answers."""

import json
import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from scoremux_client import Scored, Status
from scoremux_client.contract import MAX_BATCH_ROWS
from scoremux_desk.api.problems import ApiProblem, Described
from scoremux_files import InputError
from scoremux_files.row_files import check_kept

_MOST_VALUES = 32 * MAX_BATCH_ROWS
_MOST_GROUPS = 20
_MOST_LETTERS = 200
NAME = r"^[^\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]{0,200}$"
"""Without control characters and those that turn the direction of the text after them."""
_VALUE = re.compile(NAME.replace("[^", r"[^\ud800-\udfff"))
_GROUP = re.compile(r"\w[\w.-]{0,59}")
ROW_ID = r"^[^\u0000-\u001f\u007f]{1,200}$"


def example(**members: Any) -> ConfigDict:
    """Return the configuration of a shape that shows an example in the OpenAPI file."""
    return ConfigDict(json_schema_extra={"examples": [members]})


class KnownMembers(Described, extra="forbid"):
    """Refuses other members with one error: pydantic has one for each, and names it, which may be a text."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_others(cls, members: Any) -> Any:
        if not isinstance(members, dict) or members.keys() - cls.model_fields.keys():
            known = ", ".join(cls.model_fields)
            message = "Input should be an object with these members alone: {known}"
            raise PydanticCustomError("unknown_member", message, {"known": known})
        return members


def sendable(text: Any) -> Any:
    """Return None for a text with half of a surrogate pair, which JSON can write and UTF-8 cannot."""
    try:
        if isinstance(text, str):
            text.encode()
        return text
    except UnicodeEncodeError:
        return None


def _groups(kept: Any) -> dict[str, str]:
    """Return the columns to keep. Its errors name none of them: a name may be a text."""
    if not isinstance(kept, dict) or len(kept) > _MOST_GROUPS:
        raise PydanticCustomError("keep", "Input should be an object of at most {most} strings", {"most": _MOST_GROUPS})
    for name, value in kept.items():
        if not (isinstance(value, str) and _VALUE.fullmatch(value) and _GROUP.fullmatch(name)):
            message = (
                "Names should be letters, digits, '_', '.' and '-', and values strings of at most {most} letters, "
                "without control characters"
            )
            raise PydanticCustomError("keep", message, {"most": _MOST_LETTERS})
    try:
        check_kept(kept, "text")
    except InputError as error:
        raise PydanticCustomError("keep", "{said}", {"said": str(error)}) from None
    return kept


class RowIn(KnownMembers):
    """A response to score."""

    model_config = example(
        id="r1",
        task="en-6.3-ipp",
        text="It hands out addresses.",
        student="s-204",
        administration="2026-fall",
        keep={"region": "north"},
    )

    id: str = Field(pattern=ROW_ID)
    """The platform's own name of the response; unique within a task."""
    task: str = Field(max_length=256)
    """Task id, or `id@digest` to pin a version."""
    text: Annotated[str | None, BeforeValidator(sendable)]
    """The student's response; `null` gets the status INVALID_TEXT."""
    student: str = Field("", pattern=NAME)
    """Who wrote it: responses of one student count as one draw."""
    administration: str = Field("", pattern=NAME)
    """When it was written, for the desk's exports."""
    keep: Annotated[dict[str, str], BeforeValidator(_groups)] = {}  # noqa: RUF012
    """Groups of the student, such as a region: columns of the desk's exports, for fairness."""

    @property
    def origin(self) -> tuple[str, str, str]:
        """Student, administration, and the kept columns as the desk stores them."""
        return self.student, self.administration, json.dumps(self.keep, ensure_ascii=False) if self.keep else ""


class ScoreRequest(KnownMembers):
    """Rows to score together; they do not influence one another."""

    rows: list[RowIn] = Field(min_length=1, max_length=MAX_BATCH_ROWS)


class ScoredRow(Described):
    """A row with its outcome; `null` where there is nothing."""

    model_config = example(
        id="r1",
        task="en-6.3-ipp",
        status="OK",
        level=1,
        score=0.25,
        probabilities=[0.2, 0.7, 0.1],
        confidence=0.81,
        range=[0, 1],
        condition=None,
        route="machine",
        version="9f0c…",
        truncated=False,
        arithmetic="x86-f32",
        feedback="You name what the router does. Say, too, how it knows whom to send a packet to.",
        traits=None,
        total=None,
    )

    id: str
    task: str
    status: Status
    """`OK`, or why the row has no score."""
    level: int | None
    """Index of the level, from 0."""
    score: float | None
    """The points that the level is worth."""
    probabilities: list[float] | None
    """Of each level of the task."""
    confidence: float | None
    """Calibrated probability that a human would give this level."""
    range: tuple[int, int] | None
    """Lowest and highest level that a human may have given."""
    condition: str | None
    """Code of a response that is no attempt, such as `B` for blank."""
    route: str | None
    """`machine`, or `human:` and a reason."""
    version: str | None
    """Digest of the task version that scored the row."""
    truncated: bool
    """Whether the text was longer than the model reads."""
    arithmetic: str | None
    """What computed the row; equal names give equal bits."""
    feedback: str | None
    """The version's text for the pupil about this level."""
    traits: "dict[str, ScoredRow] | None"
    """The rows of an item's traits, by name; the item's status is `HAS_TRAITS`, and its route goes to people as soon as
    that of one trait does."""
    total: float | None
    """The total of an item's traits, if it has one and each trait has a score."""


class ScoreAnswer(BaseModel):
    """The rows of a request, in its order."""

    rows: list[ScoredRow]


_CONTENT = {"application/json": {"schema": {"$ref": "#/components/schemas/ScoreRequest"}}}
SCORE_REQUEST = {"requestBody": {"required": True, "content": _CONTENT}}
"""The part of FastAPI's `openapi_extra` that says what a body of bytes is."""


def as_json_row(scored: Scored) -> dict[str, Any]:
    """Return a row of an answer, as `ScoredRow` describes it; float32 values survive JSON with the same bits."""
    # A member that is not there, or empty, is null.
    row = {name: getattr(scored, name, None) or None for name in ScoredRow.model_fields}
    return row | {
        "task": scored.task,
        "status": scored.status.value,
        "level": scored.level if scored.level >= 0 else None,
        "score": scored.score,
        "confidence": scored.confidence,
        "range": scored.level_range,
        "truncated": scored.truncated,
        "traits": {name: as_json_row(trait) for name, trait in scored.traits.items()} or None,
        "total": scored.total.score if scored.total else None,
    }


def parsed(body: bytes) -> ScoreRequest:
    """Read a request. Raises ValidationError; ApiProblem (422) where it is not JSON, or has too many values."""
    try:
        if len(text := body.decode()) > _MOST_VALUES and _has_many_values(text):
            raise ValueError(f"more than {_MOST_VALUES:,} values; a request has at most {MAX_BATCH_ROWS} rows")
        members = json.loads(text)  # unlike pydantic's parser, it takes half of a surrogate pair
    except (ValueError, RecursionError) as error:
        raise ApiProblem(422, "Invalid request", f"Invalid JSON: {error}") from None
    return ScoreRequest.model_validate(members)


def _has_many_values(text: str) -> bool:
    """Whether JSON has so many values that reading them would hold up other requests, for seconds at 8 MiB."""
    outside = text.replace(r"\\", "").replace(r"\"", "").split('"', 2 * _MOST_VALUES)[::2]
    return sum(map("".join(outside).count, "[{,")) > _MOST_VALUES
