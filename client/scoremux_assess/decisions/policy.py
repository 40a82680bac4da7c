"""A policy: a programme's rules for confidence, conditions and what goes to people, read from a TOML file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scoremux_assess.decisions.checked_table import Table
from scoremux_assess.decisions.conditions.rules import Conditions
from scoremux_client.errors import InputError
from scoremux_files.settings import read_toml_bytes


@dataclass(frozen=True)
class Target:
    """What the rows that the machine keeps must reach, with `confidence`; or a share of rows that goes to people.

    exact: least exact agreement with humans. within_of_humans: how much less it may be than that of two humans.
    critical: greatest share of levels that are two or more off. human_share: send so many rows to people, and promise
    nothing.
    """

    confidence: float = 0.9
    exact: float | None = None
    within_of_humans: float | None = None
    critical: float | None = None
    human_share: float | None = None

    @property
    def promises(self) -> bool:
        return self.human_share is None


@dataclass(frozen=True)
class Policy:
    """digest: sha256 of the file.

    range_confidence: how sure it is that a row's range of levels holds a human's; None: rows have no ranges.

    own_rows: labelled rows from which a task has a threshold of its own. new_rows: with fewer labelled rows, all of a
    task's responses go to people. unusual: quantile of the distances of labelled rows, None for no such rule.
    truncated: whether responses that the model did not see whole go to people. read_behind: the share of rows scored
    by machine that people score too. languages: of the responses, by task; the task's own where it is absent.
    """

    digest: str
    target: Target | None = None
    range_confidence: float | None = None
    own_rows: int = 100
    new_rows: int = 30
    conditions: Conditions = field(default_factory=lambda: Conditions({}))
    unusual: float | None = None
    truncated: bool = True
    read_behind: float = 0.0
    languages: Mapping[str, Sequence[str]] = field(default_factory=dict)


def read_policy(path: Path) -> Policy:
    """Read a policy. Raises InputError naming the file and the key that is wrong."""
    data, values = read_toml_bytes(path)
    table = Table(values, str(path))
    rows, unusual = table.table("rows") or Table({}, f"{path}, rows"), table.table("unusual")
    target, ranges = _target(table.table("target")), table.table("range")
    sure = target.confidence if target else None
    policy = Policy(
        digest=hashlib.sha256(data).hexdigest(),
        target=target,
        range_confidence=_confidence(ranges, sure or Target.confidence) if ranges else sure,
        own_rows=rows.whole("own", 1, 1 << 30, Policy.own_rows),
        new_rows=rows.whole("new", 0, 1 << 30, Policy.new_rows),
        conditions=Conditions.of(table.table("conditions") or Table({}, f"{path}, conditions")),
        unusual=unusual.share("quantile") if unusual else None,
        truncated=table.flag("truncated_to_people", True),
        read_behind=table.share("read_behind", 0.0),
        languages=_languages(table.table("tasks")),
    )
    table.table("review")  # the rules of the review desk, which reads them itself
    for one in (table, rows, *(one for one in (unusual, ranges) if one)):
        one.refuse_others()
    return policy


def _target(table: Table | None) -> Target | None:
    if table is None:
        return None
    names = ("exact", "within_of_humans", "critical", "human_share")
    given = {name: table.optional_share(name) for name in names}
    confidence = _confidence(table, Target.confidence)
    table.refuse_others()
    if given["human_share"] is not None and sum(value is not None for value in given.values()) > 1:
        raise InputError(f"{table.where}: human_share promises nothing, so it stands alone")
    if given["exact"] is not None and given["within_of_humans"] is not None:
        raise InputError(f"{table.where}: there are exact and within_of_humans; give one of them")
    if all(value is None for value in given.values()):
        raise InputError(f"{table.where}: give exact, within_of_humans, critical or human_share")
    return Target(confidence, **given)


def _confidence(table: Table, default: float | None = None) -> float:
    return table.number("confidence", 0.5, 0.9999, default)


def _languages(table: Table | None) -> dict[str, tuple[str, ...]]:
    found = {}
    for task, own in table.tables().items() if table else ():
        found[task] = own.texts("languages")
        own.refuse_others()
    return found
