"""Texts and tasks → row plan: the rows to compute, and a status for every row."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from scoremux_client import contract
from scoremux_client.contract import Status
from scoremux_client.rows import to_bytes
from scoremux_decide.conditions.finder import ResponseCondition
from scoremux_engine.bank.bank import BatchVersions
from scoremux_engine.bank.residents import Version
from scoremux_engine.errors import EngineError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.buckets import SizeClass
from scoremux_engine.model.tokens import Tokens
from scoremux_engine.model.windows import weighted_mean
from scoremux_engine.runners.runner import Outputs
from scoremux_engine.scoring.in_flight import row_digest

Texts = Sequence[str | bytes]
Allowed = Callable[[str], bool] | None
"""Whether rows may name the task with an id; None: any."""

_Admitted = tuple[int, Version, str, ResponseCondition | None]
"""A row's place, version, text and condition."""


@dataclass(frozen=True)
class RowTexts:
    """The rows of a request as they came. Raises EngineError where lengths differ."""

    texts: Texts
    tasks: Texts
    allowed: Allowed = None

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.tasks):
            raise EngineError(f"{len(self.texts)} texts for {len(self.tasks)} tasks")


@dataclass(frozen=True, eq=False)
class PlannedRow:
    """A row that will be computed, or a window of one.

    Attributes:
        place: Its place among the rows of the request; windows have places after those of all rows.
        prefix_tokens: How many of its first tokens the prefix of the version stands for.
        bucket: The padded length of the other tokens.
        parts: What is computed in its place: the windows of a long text, or a text that several traits read.
    """

    place: int
    version: Version
    tokens: Tokens
    condition: ResponseCondition | None
    prefix_tokens: int
    bucket: int
    parts: "tuple[PlannedRow, ...]" = ()

    @property
    def shape(self) -> tuple[int, SizeClass, bool]:
        """The properties that rows of a micro-batch share: bucket, size class, and whether they read their prefixes."""
        return self.bucket, self.version.size, self.prefix_tokens > 0

    @property
    def needs_pooled(self) -> bool:
        """Whether its decision asks for the vector that the head read."""
        return self.version.decider.needs_pooled

    @cached_property
    def digest(self) -> str:
        """The name of this row's computation, to keep account of rows that kill."""
        return row_digest(self.version.digest, self.tokens.ids)


@dataclass(frozen=True)
class RowPlan:
    """The plan for the rows of one request.

    Attributes:
        tasks: Id of the task that each row named; None where the name is unknown.
        rows: The rows that will have a score, in order; their status is OK.
        parts: What is computed in place of rows; its outputs have places after those of all rows.
        coded: Rows by place that have a condition's code instead of a score, with the version that says so.
        items: The logits of all traits, by the place of a row of one trait whose route depends on the others.
    """

    status: list[Status]
    tasks: list[str | None]
    rows: list[PlannedRow]
    parts: list[PlannedRow] = field(default_factory=list)
    coded: dict[int, tuple[Version, ResponseCondition]] = field(default_factory=dict)
    items: dict[int, npt.NDArray[np.float32]] = field(default_factory=dict)

    @cached_property
    def computed(self) -> list[PlannedRow]:
        """What runs through the backbone: each row, or its parts."""
        return [row for row in self.rows if not row.parts] + self.parts if self.parts else self.rows

    def merged(self, out: Outputs, levels_max: int) -> Outputs:
        """Return the outputs of the rows: of one with parts their mean, weighted by the tokens that each adds.

        `items` gets the logits that routes depend on.
        """
        if not self.parts:
            return out
        size, width = len(self.status), max(levels_max, self.outputs)
        logits = np.full((size, width), np.nan, dtype=np.float32)
        for row in self.rows:
            places, weights = [part.place for part in row.parts], [part.tokens.adds for part in row.parts]
            first, outputs = row.version.first, row.version.outputs
            if not places:
                logits[row.place, :outputs] = out.logits[row.place, :outputs]
                continue
            logits[row.place, :outputs] = weighted_mean(out.logits[places, first : first + outputs], weights)
            if row.version.whole and row.version.whole.decider.decision.traits:
                self.items[row.place] = weighted_mean(out.logits[places, : row.version.whole.outputs], weights)
            if out.pooled is not None:
                out.pooled[row.place] = weighted_mean(out.pooled[places], weights)
        return Outputs(logits, None if out.pooled is None else out.pooled[:size])

    @cached_property
    def versions(self) -> list[Version]:
        """The versions that the rows need, each once."""
        return list({row.version.digest: row.version for row in self.rows}.values())

    @property
    def outputs(self) -> int:
        """The most outputs that the head of a row has."""
        return max((row.version.outputs for row in self.rows), default=0)

    @property
    def needs_pooled(self) -> bool:
        """Whether the decision of some row asks for the vector that the head read."""
        return any(version.decider.needs_pooled for version in self.versions)

    def empty_outputs(self, levels_max: int, width: int, *, pooled: bool) -> Outputs:
        """Return NaN for all rows, and after them for all parts. Vectors that decisions need are there anyway."""
        size = len(self.status) + len(self.parts)
        widest = max((part.version.outputs for part in self.parts), default=0)
        logits = np.full((size, max(levels_max, self.outputs, widest)), np.nan, dtype=np.float32)
        if not (pooled or self.needs_pooled):
            return Outputs(logits)
        return Outputs(logits, np.full((size, width), np.nan, dtype=np.float32))

    @classmethod
    def joined(cls, plans: "Sequence[RowPlan]") -> "RowPlan":
        """Return the plan of the rows of all these requests, once they are computed, one request after the other."""
        if len(plans) == 1:
            return plans[0]
        joined = cls([], [], [])
        for plan in plans:
            first = len(joined.status)
            joined.status.extend(plan.status)
            joined.tasks.extend(plan.tasks)
            joined.rows.extend(
                PlannedRow(first + row.place, row.version, row.tokens, row.condition, row.prefix_tokens, row.bucket)
                for row in plan.rows
            )
            joined.coded.update({first + place: coded for place, coded in plan.coded.items()})
            joined.items.update({first + place: logits for place, logits in plan.items.items()})
        return joined

    @classmethod
    def admit(
        cls,
        requests: Sequence[RowTexts],
        versions: BatchVersions,
        backbone: Backbone,
        *,
        coding: bool = True,
        deadly: Collection[str] = (),
    ) -> "list[RowPlan]":
        """Decode rows, find their versions and tokenise them. A row's fault becomes its status.

        Args:
            coding: Whether a condition's code may take a score's place.
            deadly: Digests of rows that kill the process; they are not computed.
        """
        plans = [cls([], [], []) for _ in requests]
        pairs = list(zip(plans, requests, strict=True))
        admitted = [(plan, row) for plan, rows in pairs for row in plan._admit(rows, versions, coding)]
        all_tokens = backbone.tokenizer.encode(version.task.render(text) for _, (_, version, text, _) in admitted)
        shared: dict[tuple[int, str, int], tuple[PlannedRow, ...]] = {}
        for (plan, (place, version, _, condition)), tokens in zip(admitted, all_tokens, strict=True):
            key = id(plan), version.digest, id(tokens)  # equal inputs have the same tokens
            parts = shared.get(key, ())
            if parts:
                row = PlannedRow(place, version, tokens, condition, 0, 0, parts)
            elif tokens.windows or version.whole:
                parts = plan._parts(version.whole or version, tokens, backbone)
                row = PlannedRow(place, version, tokens, condition, 0, 0, parts)
            else:
                row = _planned(place, version, tokens, condition, backbone)
            if deadly and any(part.digest in deadly for part in parts or [row]):
                plan.status[place] = Status.SERVER_DIED
                continue
            plan.rows.append(row)
            if parts and key not in shared:
                shared[key] = parts
                plan.parts.extend(parts)
        return plans

    def _parts(self, version: Version, tokens: Tokens, backbone: Backbone) -> tuple[PlannedRow, ...]:
        """Return the windows of a text, or the text, at the next places after the rows."""
        first = len(self.status) + len(self.parts)
        return tuple(
            _planned(place, version, part, None, backbone)
            for place, part in enumerate(tokens.windows or (tokens,), first)
        )

    def _admit(self, rows: RowTexts, versions: BatchVersions, coding: bool) -> Iterator[_Admitted]:
        """Yield the rows that can be computed; note the status and the task of all."""
        for place, (raw_text, task) in enumerate(zip(rows.texts, rows.tasks, strict=True)):
            version, status = _find(task, versions, rows.allowed)
            self.tasks.append(version.task.id if version else None)
            if version is not None:
                text, status = _decode(raw_text)
                if text is not None:
                    condition = version.decider.finder.find(text)
                    if coding and condition and condition.coded:
                        status, self.coded[place] = Status.CONDITION, (version, condition)
                    else:
                        yield place, version, text, condition
            self.status.append(status)


def _planned(
    place: int, version: Version, tokens: Tokens, condition: ResponseCondition | None, backbone: Backbone
) -> PlannedRow:
    prefix_tokens = version.prefix_tokens(tokens.ids, backbone.spec.pad_id)
    bucket = backbone.buckets.of(len(tokens.ids) - prefix_tokens)
    return PlannedRow(place, version, tokens, condition, prefix_tokens, bucket)


def _find(task: str | bytes, versions: BatchVersions, allowed: Allowed) -> tuple[Version | None, Status]:
    try:
        name = task.decode() if isinstance(task, bytes) else task
    except UnicodeDecodeError:
        return None, Status.INVALID_TASK
    parts = contract.TASK_PATTERN.fullmatch(name)
    if parts is None:
        return None, Status.INVALID_TASK
    task, digest = parts.groups()
    item = ""
    if allowed is not None and not allowed(task):
        item = task.rpartition(".")[0]
        if not (item and allowed(item)):
            return None, Status.FORBIDDEN_TASK
    version = versions.find(task, digest)
    if item and not (isinstance(version, Version) and version.whole):  # a task of its own, or none
        return None, Status.FORBIDDEN_TASK
    return (None, version) if isinstance(version, Status) else (version, Status.OK)


def _decode(text: str | bytes) -> tuple[str | None, Status]:
    raw = to_bytes(text)
    if len(raw) > contract.MAX_TEXT_BYTES:
        return None, Status.TEXT_TOO_LONG
    try:
        return raw.decode(), Status.OK
    except UnicodeDecodeError:
        return None, Status.INVALID_TEXT
