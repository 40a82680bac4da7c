"""Rows: a `Response` is encoded for the request, a `Scored` comes back (`answer_columns`)."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_client import contract
from scoremux_client.contract import Status
from scoremux_client.errors import InputError, ScoremuxError

Columns = Mapping[str, npt.NDArray[Any]]
"""Tensor name → array, batch dimension first."""

Answer = Future[Columns]
"""The answer to a request: the output tensors, or a `TransportError`."""


@dataclass(frozen=True)
class Response:
    """A student's text for a task.

    task: task id such as ``en-6.3-ipp``, or ``id@digest`` to pin a version.
    text: the response. ``bytes`` go to the server as they are (they must be UTF-8 to get a score). None, and a str with
        half of a surrogate pair, get INVALID_TEXT without being sent.
    id: the caller's own name for the row; comes back untouched.
    """

    task: str
    text: str | bytes | None
    id: str | None = None

    def __repr__(self) -> str:
        # A student's text must not end up in a traceback or a log.
        text = f"<{len(self.text)} long>" if isinstance(self.text, (str, bytes)) else f"<{type(self.text).__name__}>"
        return f"Response(task={self.task!r}, id={self.id!r}, text={text})"


AnyRow = Response | Mapping[str, Any]
"""A row as callers may give it: a mapping has the keys `task`, `text` and, if it likes, `id`."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One row's outcome.

    level: ordinal class index 0…L−1, −1 without a score.
    score: the points the level stands for, None without a score.
    probabilities: float32 values of the task's own L levels; empty without a score, and for a task whose head gives one
        value in points.
    status: ``Status.OK``, or why a score is missing.
    version: sha256 digest of the task package that scored the row, empty without a score.
    tokens: tokens the backbone saw, special tokens included.
    truncated: whether the text had more tokens than the backbone takes.
    confidence: calibrated probability that a human would give this level; None without a calibration or a score.
    condition: code of a response that cannot be scored as an attempt, such as ``B``; empty for none.
    level_range: lowest and highest level of the range around `level` that holds a human's level with the policy's
        confidence; None without a calibration or a score.
    route: ``machine``, or ``human:`` and a reason (`contract.Reason`); empty where a person cannot grade it either.
    arithmetic: name of the arithmetic that computed the row, such as ``x86-f32``; empty if nothing did.
    embedding: float32 [H], the vector that the task's head read, None without a score or if it was not asked for.
    feedback: the version's text for the pupil about this level; empty if it has none.
    traits: the outcome of each trait, by its name, where `task` is an item with several. The row itself has no score
        then, its status is ``Status.HAS_TRAITS``, and its route goes to people as soon as that of one trait does.
    total: the outcome of the item's total, if it has one; missing while a trait's score is.
    Two outcomes that differ in arithmetic and embedding alone are equal.
    """

    task: str
    level: int
    score: float | None
    probabilities: tuple[float, ...]
    status: Status
    version: str
    tokens: int
    truncated: bool
    id: str | None = None
    confidence: float | None = None
    condition: str = ""
    route: str = ""
    level_range: tuple[int, int] | None = None
    arithmetic: str = field(default="", compare=False)
    embedding: npt.NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    feedback: str = ""
    traits: "Mapping[str, Scored]" = field(default_factory=dict)
    total: "Scored | None" = None

    @property
    def parts(self) -> "list[Scored]":
        """The outcomes of an item's traits and of its total."""
        return [*self.traits.values(), *([self.total] if self.total else [])]

    def with_parts(self, parts: "Sequence[Scored]") -> "Scored":
        """Return the outcome of an item with those of its traits and of its total.

        Its route is ``machine`` only where all of theirs are.
        """
        traits = {trait_name(part.task): part for part in parts}
        total = traits.pop(contract.TOTAL, None)
        routes = [part.route for part in parts]
        route = next((one for one in routes if one.startswith(contract.HUMAN)), min(routes, default=self.route))
        return replace(self, traits=traits, total=total, route=route)

    def with_id(self, id: str | None) -> "Scored":
        """Return the outcome, and those of its parts, for another row of the same task and text."""
        return replace(self, id=id).with_parts([replace(part, id=id) for part in self.parts])

    @property
    def unsure(self) -> list[str]:
        """The traits of an item that go to people: all of them where one trait's confidence is too low."""
        return [name for name, trait in self.traits.items() if trait.to_human]

    @property
    def ok(self) -> bool:
        """Whether the row has a score."""
        return self.status is Status.OK

    @property
    def to_human(self) -> bool:
        """Whether the row goes to people."""
        return self.route.startswith(contract.HUMAN)

    @classmethod
    def without_score(cls, response: Response, status: Status) -> "Scored":
        """Return the outcome of a row that no server scored."""
        return cls(response.task, contract.NO_LEVEL, None, (), status, "", 0, False, response.id)


@dataclass(eq=False, slots=True)
class Row:
    """A (task, text) that is sent once, with its outcome: `scored` or `error`.

    parts: the rows that are sent in its place, one for each trait of an item. item: the row that it is a part of.
    listed: whether a server was asked for its tasks to send this row.
    """

    response: Response
    scored: Scored | None = None
    error: ScoremuxError | None = None
    parts: "list[Row]" = field(default_factory=list)
    item: "Row | None" = None
    listed: bool = False

    def join(self) -> bool:
        """Take the outcome of all parts, once each has one. Return whether the server does not know one of them."""
        scored = [part.scored for part in self.parts if part.scored]
        if len(scored) < len(self.parts):
            return False
        self.scored = Scored.without_score(self.response, Status.HAS_TRAITS).with_parts(scored)
        return any(part.status is Status.UNKNOWN_TASK for part in scored)


def trait_name(task: str) -> str:
    """Return the name of a trait, without its item and a digest."""
    return task.partition("@")[0].rpartition(".")[2]


def as_response(row: AnyRow) -> Response:
    """Return a row as a `Response`. What lacks `task` or `text` stays as it is; `what_is_wrong` names it."""
    if not isinstance(row, Mapping) or not row.keys() >= {"task", "text"}:
        return row  # type: ignore[return-value]
    return Response(row["task"], row["text"], row.get("id"))


def what_is_wrong(row: object) -> str:
    """Return why a row cannot be scored; empty if it can."""
    if isinstance(row, Mapping):
        return f"it lacks the key {' and '.join(name for name in ('task', 'text') if name not in row)}"
    if not isinstance(row, Response):
        return f"it is of type {type(row).__name__}, not a scoremux_client.Response(task=…, text=…)"
    if isinstance(row.task, (str, bytes)) and isinstance(row.text, (str, bytes, type(None))):
        return ""
    kinds = f"{type(row.task).__name__} and {type(row.text).__name__}"
    return f"task and text are {kinds}, not str or bytes"


def is_text(text: str | bytes | None) -> bool:
    """Whether a text can be sent: it is not missing and, if it is a str, has no half of a surrogate pair."""
    try:
        return text is not None and (isinstance(text, bytes) or text.isascii() or bool(text.encode()))
    except UnicodeEncodeError:
        return False


def to_bytes(text: str | bytes | None) -> bytes:
    """Return UTF-8; a str with lone surrogates becomes bytes that the server answers with INVALID_TEXT."""
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str):
        raise InputError(f"a text or task is {type(text).__name__}, not str or bytes")
    return text.encode("utf-8", "surrogatepass")


def encode(responses: Sequence[Response]) -> Columns:
    """Return the input tensors, object arrays of bytes [B, 1]."""
    columns = {contract.TEXT.name: [to_bytes(r.text) for r in responses]}
    columns[contract.TASK.name] = [to_bytes(r.task) for r in responses]
    arrays = {name: np.empty((len(responses), 1), dtype=np.object_) for name in columns}
    for name, values in columns.items():
        arrays[name][:, 0] = values
    return arrays
