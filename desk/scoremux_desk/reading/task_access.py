"""The tasks that a person may read: assignments, quotas, qualification before live work, control limits after it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from scoremux_desk.database import log, programme, reads, responses
from scoremux_desk.database.schema import (
    ASSIGNMENT,
    COUNTS,
    DECISION,
    MEMBER,
    POOL,
    READ,
    ROW,
    STANDING,
    Columns,
    as_dict,
    decisions,
    deleted,
    inserted,
    pool_members,
    rows,
    standings,
    time_of,
)
from scoremux_desk.desk_policy import DeskPolicy

QUALIFY, FAILED, PAUSED, QUOTA, ELSEWHERE = "qualify", "failed", "paused", "quota", "elsewhere"
"""Why someone may not read a task: they qualify first, did not, are paused, have done their quota, are not assigned."""

QUALIFICATION = "QUALIFICATION"
_BY = "scoremux review"


class Assignment(NamedTuple):
    """The tasks that a person reads: a task's id or a pattern, with the most decisions, None for no limit."""

    tasks: str
    quota: int | None

    def __str__(self) -> str:
        return self.tasks if self.quota is None else f"{self.tasks} {self.quota}"


@dataclass(frozen=True)
class RaterStanding:
    """The standing of a person in a task.

    Attributes:
        state: qualified, failed, paused or again.
        since: Only decisions after this one count for what comes next.
        exact: How many of the papers that it rests on were exactly right; None where a leader decided.
    """

    state: str
    since: int
    exact: int | None
    papers: int | None


@dataclass
class TaskAccess:
    """One person in one transaction, and what they may read. Each part is read from the tables when it is needed first.

    Leaders neither qualify nor are paused, and adjudicate: they read the responses that two raters disagree about. The
    connection must be the only writer (`Database.write`) for all methods but `obstacle`.
    """

    connection: Connection
    account: Any  # id, name, role

    def __post_init__(self) -> None:
        self.person: int = self.account.id
        self.by: str = self.account.name
        self.adjudicates = self.account.role != "rater"

    def log(self, action: str, body: Columns, row: int | None = None, remark: str = "") -> int:
        """Append an entry about what this person does to the record; return its number (`log.append`)."""
        return log.append(self.connection, self.by, action, body, row, remark)

    @cached_property
    def now(self) -> float:
        return time_of(self.connection)

    @cached_property
    def policy(self) -> DeskPolicy:
        return programme.load_policy(self.connection)

    @cached_property
    def own_assignments(self) -> list[Assignment]:
        """Those that the person has alone."""
        query = select(ASSIGNMENT.tasks, ASSIGNMENT.quota).where(ASSIGNMENT.person == self.person)
        return [Assignment(*row) for row in self.connection.execute(query.order_by(ASSIGNMENT.id))]

    @cached_property
    def assignments(self) -> list[Assignment]:
        """Those that the person has alone, and those of their pools."""
        query = select(POOL.assignments).join(pool_members, MEMBER.pool == POOL.id)
        shared = self.connection.scalars(query.where(MEMBER.person == self.person).order_by(POOL.name))
        return [*self.own_assignments, *(a for lines in shared for a in from_json(lines))]

    @cached_property
    def sets(self) -> dict[str, list[int]]:
        """The papers of each task's qualification set; empty for leaders."""
        sets: dict[str, list[int]] = {}
        query = select(ROW.task, ROW.id).where(ROW.state == "qualification").order_by(ROW.id)
        for paper in () if self.adjudicates else self.connection.execute(query):
            sets.setdefault(paper.task, []).append(paper.id)
        return sets

    @cached_property
    def standings(self) -> dict[str, RaterStanding]:
        """By task."""
        columns = STANDING.task, STANDING.state, STANDING.since, STANDING.exact, STANDING.papers
        query = select(*columns).where(STANDING.person == self.person)
        return {task: RaterStanding(*values) for task, *values in self.connection.execute(query)}

    @cached_property
    def decided(self) -> dict[str, int]:
        """How many decisions count for the quota, by task; those of qualification sets do not."""
        query = select(DECISION.task, func.count()).where(DECISION.person == self.person)
        query = query.where(COUNTS, DECISION.kind != "qualification")
        return as_dict(self.connection, query.group_by(DECISION.task))

    def obstacle(self, task: str) -> str:
        """Return why this person may not read a task, empty if they may."""
        matching = [assignment for assignment in self.assignments if fnmatchcase(task, assignment.tasks)]
        if self.assignments and not matching:
            return ELSEWHERE
        standing = None if self.adjudicates else self.standings.get(task)
        if standing is not None and standing.state in (FAILED, PAUSED):
            return standing.state
        if task in self.sets and (standing is None or standing.state == "again"):
            return QUALIFY
        return QUOTA if matching and all(self._is_done(assignment) for assignment in matching) else ""

    def may_read(self, task: str) -> bool:
        """Return whether live work of a task is open to this person; pause them if validity papers say so."""
        return not self.obstacle(task) and not self._pause_by_papers(task)

    def next_paper(self, task: str) -> Any | None:
        """Return a read of the next paper of a task's qualification set; after the last, settle the standing."""
        all_decided = self.papers_decided("qualification", task)
        decided = [decision for decision in all_decided if not decision.fast]
        done, decided_once = ({decision.row for decision in some} for some in (decided, all_decided))
        aside = {read.row for read in reads.reads_of(self.connection, self.person, "aside")}
        undecided = [paper for paper in self.sets[task] if paper not in done]
        for paper in sorted(undecided, key=decided_once.__contains__):  # what was decided too fast comes again, last
            if paper not in aside:
                row = responses.row_of(self.connection, paper)
                return reads.add_read(self.connection, row, "qualification", QUALIFICATION, priority=row.priority)
        if not undecided:
            exact = sum(decision.level == decision.known_level for decision in decided)
            enough = exact >= self.pass_mark(task) * len(decided) - 1e-9
            state = "qualified" if enough else FAILED
            self.set_standing(task, RaterStanding(state, decided[-1].id, exact, len(decided)))
        return None

    def pass_mark(self, task: str) -> float:
        """Return the share of exact levels with which raters qualify for a task."""
        return self.policy.pass_mark(len(programme.item_of(self.connection, task).levels))

    def set_standing(self, task: str, standing: RaterStanding, by: str = _BY) -> None:
        """Keep a standing, and give back what the person may no longer read."""
        mine = (STANDING.person == self.person) & (STANDING.task == task)
        columns = {"person": self.person, "task": task, **vars(standing)}
        if standing.state in (PAUSED, FAILED):
            reads.give_back(self.connection, READ.person == self.person, READ.task == task)
        deleted(self.connection, standings, mine)
        inserted(self.connection, standings, **columns)
        self.standings[task] = standing
        body = {**columns, "name": self.by}
        log.append(self.connection, by, "standing", body)

    def papers_decided(self, kind: str, task: str = "", before: float = math.inf) -> Sequence[Any]:
        """Return this person's decisions about papers with a known level, the first one first.

        Args:
            task: Papers of this task that count for what comes next, or of all tasks if it is empty.
            before: Only decisions before this time, in seconds since the epoch.

        Returns:
            The decision's columns, known_level and text of the paper.
        """
        query = (
            select(decisions, ROW.known_level, ROW.text)
            .join(rows, ROW.id == DECISION.row)
            .where(DECISION.person == self.person, DECISION.kind == kind, COUNTS)
            .where(DECISION.at < before)
            .order_by(DECISION.id)
        )
        if task:
            since = self.standings[task].since if task in self.standings else 0
            query = query.where(DECISION.task == task, DECISION.id > since)
        return self.connection.execute(query).all()

    def _pause_by_papers(self, task: str) -> bool:
        """Pause this person if their newest validity papers of a task are under the control limit.

        Only papers count whose decision can no longer be undone, so that a pause tells nothing about the paper before.
        """
        number = self.policy.control
        if number is None or self.adjudicates:
            return False
        papers = self.papers_decided("validity", task, self.now - self.policy.undo_s)[-number:]
        if len(papers) < number:
            return False
        levels = len(programme.item_of(self.connection, task).levels)
        exact = sum(paper.level == paper.known_level for paper in papers)
        if exact >= self.policy.control_limit(levels, number) * number:
            return False
        self.set_standing(task, RaterStanding(PAUSED, papers[-1].id, exact, number))
        return True

    def _is_done(self, assignment: Assignment) -> bool:
        if assignment.quota is None:
            return False
        matching = (number for task, number in self.decided.items() if fnmatchcase(task, assignment.tasks))
        return sum(matching) >= assignment.quota


def from_json(lines: str) -> list[Assignment]:
    """Return the assignments of a pool."""
    return [Assignment(*line) for line in json.loads(lines)]
