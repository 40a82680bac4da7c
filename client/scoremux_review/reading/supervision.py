"""Who may read what: assignments and quotas, qualification sets before live work, and control limits.

The connection must be the only writer (`Database.write`) wherever something is changed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from scoremux_review.database import accounts, assignment_rows, leases, log, programme, responses
from scoremux_review.database.connection import Connection
from scoremux_review.desk_policy import DeskPolicy
from scoremux_review.errors import ReviewError

QUALIFY, FAILED, PAUSED, QUOTA, ELSEWHERE = "qualify", "failed", "paused", "quota", "elsewhere"
"""Why someone may not read a task: they qualify first, did not, are paused, have done their quota, are not assigned."""

_IN_WORDS = {
    QUALIFY: "they qualify first",
    FAILED: "they did not qualify",
    PAUSED: "they are paused",
    QUOTA: "they have done their quota",
    ELSEWHERE: "it is not among their assignments",
}

QUALIFICATION = "QUALIFICATION"
ACTIONS = {"qualified": "Let read", "again": "Qualify again", PAUSED: "Pause"}
"""What a leader decides about a rater and a task."""

_BY = "scoremux review"
_MOST_ASSIGNMENTS, _MOST_NAME = 100, 80
_QUOTA = re.compile("[0-9]{1,9}")


@dataclass(frozen=True)
class Reader:
    """Who asks for work.

    Attributes:
        id: Of the person.
        name: Of the person.
        adjudicates: Whether the queue of disagreements is open to them.
    """

    id: int
    name: str
    adjudicates: bool = False


class TaskAccess:
    """What one person may read, as it is now. Leaders neither qualify nor are paused."""

    def __init__(self, connection: Connection, reader: Reader) -> None:
        self._connection = connection
        self._reader = reader
        self._assignments = assignment_rows.all_assignments_of(connection, reader.id)
        with_quota = any(assignment.quota is not None for assignment in self._assignments)
        self._decided = assignment_rows.decided_by_task(connection, reader.id) if with_quota else {}
        self.sets = {} if reader.adjudicates else assignment_rows.qualification_sets(connection)
        self.standings = {} if reader.adjudicates else assignment_rows.standings_of(connection, reader.id)

    def obstacle(self, task: str) -> str:
        """Return why this person may not read a task, empty if they may."""
        matching = [assignment for assignment in self._assignments if fnmatchcase(task, assignment.tasks)]
        if self._assignments and not matching:
            return ELSEWHERE
        standing = self.standings.get(task)
        if standing is not None and standing.state in (FAILED, PAUSED):
            return str(standing.state)
        if task in self.sets and (standing is None or standing.state == "again"):
            return QUALIFY
        return QUOTA if matching and all(self._is_done(assignment) for assignment in matching) else ""

    def require(self, task: str) -> None:
        """Raise ReviewError if this person may not read a task."""
        if obstacle := self.obstacle(task):
            raise ReviewError(f"{self._reader.name} may not read responses to {task}: {_IN_WORDS[obstacle]}")

    def may_read(self, task: str, policy: DeskPolicy, now: float) -> bool:
        """Return whether live work of a task is open to this person; pause them if validity papers say so."""
        return not self.obstacle(task) and not self._pause_by_papers(task, policy, now)

    def next_paper(self, task: str, policy: DeskPolicy, now: float) -> Any | None:
        """Return a read of the next paper of a task's qualification set; settle where they stand after the last."""
        standing = self.standings.get(task)
        since = standing.since if standing else 0
        all_decided = assignment_rows.papers_decided(
            self._connection, self._reader.id, "qualification", float("inf"), since, task
        )
        decided = [decision for decision in all_decided if not decision.fast]
        done, seen = ({decision.row for decision in some} for some in (decided, all_decided))
        aside = {read.row for read in leases.reads_aside(self._connection, self._reader.id)}
        undecided = [paper for paper in self.sets[task] if paper not in done]
        for paper in sorted(undecided, key=seen.__contains__):  # what was decided too fast comes again, last
            if paper not in aside:
                row = responses.row_of(self._connection, paper)
                return leases.add_read(self._connection, row, "qualification", QUALIFICATION, priority=row.priority)
        if not undecided:
            exact = sum(decision.level == decision.known_level for decision in decided)
            mark = policy.pass_mark(len(programme.item_of(self._connection, task).levels))
            state = "qualified" if exact >= mark * len(decided) - 1e-9 else FAILED
            self._settle(task, state, decided, exact, now)
        return None

    def _pause_by_papers(self, task: str, policy: DeskPolicy, now: float) -> bool:
        """Pause this person if their newest validity papers of a task are under the control limit.

        Only papers count whose decision can no longer be undone, so that a pause tells nothing about the paper before.
        """
        if policy.control is None or self._reader.adjudicates:
            return False
        standing = self.standings.get(task)
        since = standing.since if standing else 0
        papers = assignment_rows.papers_decided(
            self._connection, self._reader.id, "validity", now - policy.undo_s, since, task
        )[-policy.control :]
        if len(papers) < policy.control:
            return False
        levels = len(programme.item_of(self._connection, task).levels)
        exact = sum(paper.level == paper.known_level for paper in papers)
        if exact >= policy.control_limit(levels, len(papers)) * len(papers):
            return False
        self._settle(task, PAUSED, papers, exact, now)
        return True

    def _settle(self, task: str, state: str, papers: Sequence[Any], exact: int, now: float) -> None:
        values = {"state": state, "since": papers[-1].id, "exact": exact, "papers": len(papers)}
        _set_standing(self._connection, self._reader, task, values, _BY, now)
        self.standings = assignment_rows.standings_of(self._connection, self._reader.id)

    def _is_done(self, assignment: Any) -> bool:
        if assignment.quota is None:
            return False
        matching = (number for task, number in self._decided.items() if fnmatchcase(task, assignment.tasks))
        return bool(sum(matching) >= assignment.quota)


def qualification_news(connection: Connection, decision: Any, policy: DeskPolicy) -> str:
    """Return what a rater is told after a decision about a paper of a qualification set."""
    task, standing = decision.task, assignment_rows.standings_of(connection, decision.person).get(decision.task)
    if decision.fast:
        return f"Decisions in less than {policy.fast_s:g} s do not count; this paper comes again."
    if standing is None or standing.since != decision.id:
        return ""
    exact = f"{standing.exact} of {standing.papers} papers were exactly right"
    if standing.state == FAILED:
        mark = policy.pass_mark(len(programme.item_of(connection, task).levels))
        return f"You did not qualify for {task}: {exact}, {mark:.0%} are needed. Your leader decides what follows."
    return f"You have qualified for {task}: {exact}."


def may_undo(connection: Connection, decision: Any) -> bool:
    """Return whether a decision is not of a qualification set that is complete."""
    standing = assignment_rows.standings_of(connection, decision.person).get(decision.task)
    return bool(decision.kind != "qualification" or standing is None or standing.since < decision.id)


def assign_work(connection: Connection, by: Reader, person: Reader, lines: str, now: float) -> None:
    """Say whose responses a person reads. Raises ReviewError if `lines` cannot be understood (`_understood`)."""
    assigned = assignment_rows.replace_assignments(connection, person.id, _understood(lines))
    log.append(
        connection, now, by.name, "work assigned", {"person": person.id, "name": person.name, "assignments": assigned}
    )
    end_reservations(connection, person, now)


def change_pool(connection: Connection, by: str, name: str, lines: str, members: Sequence[str], now: float) -> None:
    """Say whose responses the members of a pool read, and who they are; without lines and members the pool goes.

    Args:
        connection: The transaction.
        by: Who changes it.
        name: Of the pool; a new one is added.
        lines: As for `assign_work`; a quota is each member's.
        members: Names. Members whose account is closed stay, as long as there is a pool: open again, they would read
            all tasks.
        now: Seconds since the epoch.

    Raises:
        ReviewError: the name, a line or a member cannot be used, or there are members and no lines.
    """
    if not name or len(name) > _MOST_NAME or not name.isprintable() or name != name.strip():
        raise ReviewError(f"a pool's name has 1 to {_MOST_NAME} printable characters, and no space at its ends")
    people = {person.name: person for person in accounts.listed(connection) if person.active}
    for member in members:
        if member not in people:
            raise ReviewError(f"there is no person named {member[:_MOST_NAME]!r} for you to choose")
    before = {m for pool in assignment_rows.all_pools(connection) if pool.name == name for m in pool.members}
    after = {people[member].id for member in members}
    if after or lines.strip():
        after |= before - {person.id for person in people.values()}
    understood = _understood(lines)
    if after and not understood:
        raise ReviewError(
            "a pool with members needs tasks, since who has none reads all tasks: name tasks, or take all members out"
        )
    body = assignment_rows.replace_pool(connection, name, understood, after)
    log.append(connection, now, by, "pool", body)
    for person in people.values():
        if person.id in before | after:
            end_reservations(connection, Reader(person.id, person.name, person.role != "rater"), now)


def _understood(lines: str) -> list[tuple[str, int | None]]:
    """Read lines of a task or a pattern, with a quota if there is one. Raises ReviewError naming the line."""
    new: list[tuple[str, int | None]] = []
    for line in lines.splitlines():
        words = line.split()
        if len(words) > 2 or not all(map(_QUOTA.fullmatch, words[1:])):
            raise ReviewError(f"{line.strip()[:80]!r} is not a task or a pattern, and a number of at most 9 digits")
        if words:
            new.append((words[0], int(words[1]) if len(words) == 2 else None))
    if len(new) > _MOST_ASSIGNMENTS:
        raise ReviewError(f"there are at most {_MOST_ASSIGNMENTS} assignments; use patterns such as bio-*")
    return new


def end_reservations(connection: Connection, person: Reader, now: float) -> None:
    """Leave to anyone what is for a person alone who may no longer read its task: it would wait for ever."""
    access = TaskAccess(connection, person)
    for task in leases.reserved_tasks(connection, person.id):
        if access.obstacle(task):
            for row in leases.end_reservations(connection, person.id, task):
                log.append(connection, now, _BY, "assigned", {"to": None}, row=row)


def decide_standing(connection: Connection, by: Reader, person: Reader, task: str, state: str, now: float) -> None:
    """Let someone read a task, have them qualify again, or pause them: one of `ACTIONS`. Raises ReviewError."""
    if state not in ACTIONS or task not in programme.all_items(connection):
        raise ReviewError("choose a task, and what follows")
    since = assignment_rows.last_decision_id(connection, person.id)
    values = {"state": state, "since": since, "exact": None, "papers": None}
    _set_standing(connection, person, task, values, by.name, now)


def _set_standing(
    connection: Connection, person: Reader, task: str, values: dict[str, Any], by: str, now: float
) -> None:
    if values["state"] in (PAUSED, FAILED):
        leases.release_task(connection, person.id, task)
    columns = {"person": person.id, "task": task, **values}
    assignment_rows.set_standing(connection, **columns)
    log.append(connection, now, by, "standing", {**columns, "name": person.name})
    end_reservations(connection, person, now)
