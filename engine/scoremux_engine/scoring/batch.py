"""A batch on its way: rows that can be scored, with their tokens and version, and a status for every row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from scoremux_assess.decisions.conditions.finder import ResponseCondition
from scoremux_client import contract, rows
from scoremux_client.contract import Status
from scoremux_engine.bank.bank import BatchVersions
from scoremux_engine.bank.version import Version
from scoremux_engine.errors import EngineError
from scoremux_engine.model.tokens import Tokenizer, Tokens
from scoremux_engine.scoring.in_flight import row_digest

Texts = Sequence[str | bytes]
Allowed = Callable[[str], bool] | None
"""Whether a row may name the task with an id; None: any."""


@dataclass(frozen=True)
class AdmittedRow:
    """A row that will be scored: its place in the batch, its task's version, its tokens, its condition if any."""

    place: int
    version: Version
    tokens: Tokens
    condition: ResponseCondition | None = None

    @cached_property
    def needs_pooled(self) -> bool:
        """Whether its decision asks for the vector that the head read."""
        return self.version.decider.needs_pooled

    @cached_property
    def digest(self) -> str:
        """What names this row's computation, for whoever keeps account of rows that kill."""
        return row_digest(self.version.digest, self.tokens.ids)


@dataclass(frozen=True)
class Batch:
    """`status` has one entry a row; `admitted` the rows whose status is OK, in order.

    tasks: id of the task that each row named, None where there is none of that name. coded: rows by place that have a
    condition's code instead of a score, with the version that says so.
    """

    status: list[Status]
    admitted: list[AdmittedRow]
    tasks: list[str | None]
    coded: dict[int, tuple[Version, ResponseCondition]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.status)

    @classmethod
    def admit(
        cls,
        texts: Texts,
        tasks: Texts,
        versions: BatchVersions,
        tokenizer: Tokenizer,
        allowed: Sequence[Allowed] | None = None,
        *,
        coding: bool = True,
    ) -> Batch:
        """Decode, find and tokenise; whatever is wrong with a row becomes its status. Never raises for a row.

        allowed: one entry a row; None allows everything. coding: whether a condition's code may take a score's place.
        """
        if len(texts) != len(tasks):
            raise EngineError(f"{len(texts)} texts for {len(tasks)} tasks")
        status: list[Status] = []
        named: list[str | None] = []
        good: list[tuple[int, Version, str, ResponseCondition | None]] = []
        coded: dict[int, tuple[Version, ResponseCondition]] = {}
        permissions = [None] * len(texts) if allowed is None else allowed
        for place, (raw_text, task, may) in enumerate(zip(texts, tasks, permissions, strict=True)):
            version, why = _find(task, versions, may)
            named.append(version.task.id if version else None)
            if version is not None:
                text, why = _decode(raw_text)
                if text is not None:
                    found = version.decider.finder.find(text)
                    if coding and found and found.coded:
                        why, coded[place] = Status.CONDITION, (version, found)
                    else:
                        good.append((place, version, text, found))
            status.append(why)
        tokens = tokenizer.encode(version.task.render(text) for _, version, text, _ in good)
        rows = [AdmittedRow(p, v, t, found) for (p, v, _, found), t in zip(good, tokens, strict=True)]
        return cls(status, rows, named, coded)

    def without(self, places: set[int], why: Status) -> Batch:
        """Return the batch with the rows at these places no longer admitted, for a reason found later."""
        status = [why if place in places else old for place, old in enumerate(self.status)]
        return Batch(status, [row for row in self.admitted if row.place not in places], self.tasks, self.coded)

    def groups(self) -> tuple[list[Version], npt.NDArray[np.int64]]:
        """Return the G versions present and, for each admitted row, its index among them (int64 [B])."""
        places: dict[str, int] = {}
        versions: list[Version] = []
        group = []
        for row in self.admitted:
            if row.version.digest not in places:
                places[row.version.digest] = len(versions)
                versions.append(row.version)
            group.append(places[row.version.digest])
        return versions, np.array(group, dtype=np.int64)


def _find(task: str | bytes, versions: BatchVersions, allowed: Allowed) -> tuple[Version | None, Status]:
    try:
        name = task.decode() if isinstance(task, bytes) else task
    except UnicodeDecodeError:
        return None, Status.INVALID_TASK
    asked = contract.TASK_PATTERN.fullmatch(name)
    if asked is None:
        return None, Status.INVALID_TASK
    if allowed is not None and not allowed(asked[1]):
        return None, Status.FORBIDDEN_TASK
    found = versions.find(*asked.groups())
    return (None, found) if isinstance(found, Status) else (found, Status.OK)


def _decode(text: str | bytes) -> tuple[str | None, Status]:
    raw = rows.to_bytes(text)
    if len(raw) > contract.MAX_TEXT_BYTES:
        return None, Status.TEXT_TOO_LONG
    try:
        return raw.decode(), Status.OK
    except UnicodeDecodeError:
        return None, Status.INVALID_TEXT
