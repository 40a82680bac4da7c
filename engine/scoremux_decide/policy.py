"""A policy: a programme's rules for confidence, conditions and what goes to people, read from a TOML file."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from scoremux_decide.conditions.condition_rules import Conditions
from scoremux_files.settings import check, read_toml_bytes

Share = Annotated[float, Field(ge=0, le=1)]
Confidence = Annotated[float, Field(ge=0.5, le=0.9999)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TotalTarget(_Table):
    """share: the least share of responses whose total is `within` so many points of one person's."""

    within: Annotated[float, Field(ge=0)]
    share: Share


class AgreementTarget(_Table):
    """The agreement that the rows that the machine keeps must reach; or a share of rows that goes to people.

    Attributes:
        exact: Least exact agreement with humans.
        within_of_humans: How much less exact agreement is enough than two humans have.
        critical: Greatest share of levels that are two or more off.
        total: Of items with a total, how near it is to a person's; their traits reach the other limits, too.
        human_share: Share of rows to send to people; nothing is promised then.
        one_level: Whether all responses of a task go to people if the machine gives nearly all of its rows one level;
            "keep": it has a threshold as other tasks.
    """

    confidence: Confidence = 0.9
    exact: Share | None = None
    within_of_humans: Share | None = None
    critical: Share | None = None
    total: TotalTarget | None = None
    human_share: Share | None = None
    one_level: Literal["people", "keep"] = "people"

    @model_validator(mode="after")
    def _consistent(self) -> "AgreementTarget":
        limits = [self.exact, self.within_of_humans, self.critical, self.total]
        if self.human_share is None and limits == [None] * 4:
            raise ValueError("give exact, within_of_humans, critical, total or human_share")
        if self.human_share is not None and limits != [None] * 4:
            raise ValueError("human_share promises nothing; give it alone")
        if self.exact is not None and self.within_of_humans is not None:
            raise ValueError("give exact or within_of_humans, not both")
        return self


class RangePolicy(_Table):
    """confidence: of the ranges of levels; None: that of the target."""

    confidence: Confidence | None = None


class GatePolicy(_Table):
    """Which tasks the machine keeps no response of.

    Attributes:
        verdict: Those whose verdict in a report is FAIL; or NOT ENOUGH ROWS or LEVELS as well; or none for its verdict.
        criteria: A file of criteria, relative to the policy; empty: those that come with scoremux.
    """

    verdict: Literal["fail", "not enough rows", "off"] = "fail"
    criteria: str = ""


class RowsPolicy(_Table):
    """From `own` labelled rows on, a task has its own threshold; with fewer than `new`, people get all responses."""

    own: Annotated[int, Field(ge=1, le=1 << 30)] = 100
    new: Annotated[int, Field(ge=0, le=1 << 30)] = 30


class UnusualPolicy(_Table):
    """quantile: the share of the labelled rows' distances that is usual."""

    quantile: Share


class TaskPolicy(_Table):
    """languages: of a task's responses, in place of the task's own."""

    languages: list[str]


class WatchPolicy(_Table):
    """The rules of `scoremux watch`.

    Attributes:
        false_alarms: How many are accepted in `days`, over all tasks together; below 1, the chance of any.
        days: Length of the period that `false_alarms` is for, such as a term or a year.
        late_days: Days after which picked rows that people have not read are listed as late.
        on_alarm: "hold": alarms are written for `scoremux tasks hold`; "report": they are reported alone.
        find_loss, find_days: Reads are planned that find a loss of so much agreement in so many days (half of them).
        most_read: The greatest share of the machine's rows of a task that is planned to be read.
        owner: Who answers for alarms, as the page says it.
    """

    false_alarms: Annotated[float, Field(gt=0, le=1000)] = 0.05
    days: Annotated[int, Field(ge=1, le=3660)] = 182
    late_days: Annotated[int, Field(ge=1, le=3660)] = 7
    on_alarm: Literal["report", "hold"] = "report"
    find_loss: Annotated[float, Field(gt=0, le=0.5)] = 0.10
    find_days: Annotated[int, Field(ge=1, le=3660)] = 14
    most_read: Annotated[float, Field(gt=0, le=1)] = 0.30
    owner: str = ""


class ScoringPolicy(_Table):
    """A policy's file.

    Attributes:
        target: None: no row goes to people for its confidence.
        range: None: the ranges of levels have the target's confidence.
        rows: How many labelled rows a task needs.
        unusual: None: no row goes to people for its vector.
        truncated_to_people: Whether responses that the model did not see whole go to people.
        conditions: Rules for responses that are not attempts.
        tasks: Rules for single tasks, by id.
        watch: Rules for read-behind rows that contradict a promise.
        review: The rules of the review desk, which reads them itself.
    """

    target: AgreementTarget | None = None
    gate: GatePolicy = GatePolicy()
    range: RangePolicy | None = None
    rows: RowsPolicy = RowsPolicy()
    unusual: UnusualPolicy | None = None
    truncated_to_people: bool = True
    conditions: Conditions = Conditions()
    tasks: dict[str, TaskPolicy] = {}
    watch: WatchPolicy = WatchPolicy()
    review: dict[str, Any] = {}
    _digest: str = PrivateAttr("")
    _path: Path | None = PrivateAttr(None)

    @property
    def digest(self) -> str:
        """sha256 of the file; empty for a policy that was not read from one."""
        return self._digest

    @property
    def criteria(self) -> Path | None:
        """The file of criteria; None: those that come with scoremux."""
        return (self._path or Path()).parent / self.gate.criteria if self.gate.criteria else None

    @property
    def range_confidence(self) -> float | None:
        """How sure it is that a row's range of levels holds a human's; None: rows have no ranges."""
        default = self.target.confidence if self.target else None
        if self.range is None:
            return default
        return self.range.confidence or default or AgreementTarget.model_fields["confidence"].default

    def conditions_of(self, task: str) -> Conditions:
        """Return the rules for a task: the policy's, with the languages that it names for the task."""
        rule = self.conditions.language
        if rule is None or task not in self.tasks:
            return self.conditions
        return replace(self.conditions, language=replace(rule, languages=tuple(self.tasks[task].languages)))


def read_policy(path: Path) -> ScoringPolicy:
    """Read a policy. Raises InputError naming the file and the key that is wrong."""
    data, values = read_toml_bytes(path)
    policy = check(ScoringPolicy, values, str(path))
    policy._digest, policy._path = hashlib.sha256(data).hexdigest(), path
    return policy
