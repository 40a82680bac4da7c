"""The content of the tables as the record has it, from its first entry to its last."""

import json
from dataclasses import dataclass, field
from typing import Any

from scoremux_review.database import log
from scoremux_review.database.schema import ERASED, Columns

_DECISION = (
    "read",
    "row",
    "person",
    "task",
    "kind",
    "round",
    "level",
    "code",
    "saw",
    "at",
    "spent_s",
    "lead",
    "size",
    "fast",
)
UNSETTLED = {
    "state": "",
    "round": 1,
    "final_level": None,
    "final_code": "",
    "final_decision": None,
}
"""A row that has just come in, but for its state."""


@dataclass
class RecordedState:
    """The content of the tables as the record has it."""

    policy: Columns = field(default_factory=dict)
    people: dict[int, Columns] = field(default_factory=dict)  # with the digest of the password's hash
    tasks: dict[str, str] = field(default_factory=dict)  # → digest of its levels and texts
    paused: set[str] = field(default_factory=set)
    anchors: dict[str, str] = field(default_factory=dict)  # task → digest of its anchor papers
    chunks: list[tuple[int, int, str]] = field(default_factory=list)  # first and last id, and digest, of rows
    rescored: dict[int, tuple[str, str]] = field(default_factory=dict)  # row → first and newest digest (old records)
    rows: dict[int, Columns] = field(default_factory=dict)  # state, round and final score, if not as the row came in
    decisions: dict[int, Columns] = field(default_factory=dict)
    alerts: dict[int, Columns] = field(default_factory=dict)
    messages: dict[int, Columns] = field(default_factory=dict)  # by entry
    views: dict[tuple[int, int], Columns] = field(default_factory=dict)  # by alert and person
    assignments: dict[int, list[list[Any]]] = field(default_factory=dict)  # person → patterns of tasks, quotas
    pools: dict[int, Columns] = field(default_factory=dict)
    standings: dict[tuple[int, str], Columns] = field(default_factory=dict)  # by person and task
    remarks: dict[int, tuple[int, str]] = field(default_factory=dict)  # entry → its row, and the salted digest
    erased: list[tuple[list[int], str]] = field(default_factory=list)  # rows, and the digest over what was left of them

    def add(self, entry: log.LogEntry) -> None:
        """Take in one entry."""
        body = entry.body
        row = entry.body["row"]
        self._add_programme(entry.action, body)
        self._add_work(entry.action, entry.number, body)
        if "remark" in body:
            self.remarks[entry.number] = (row, body["remark"])
        if "final" in body:
            level, code, decision = body["final"]
            settled = {"final_level": level, "final_code": code, "final_decision": decision}
            self.rows[row] = {
                "state": body["state"],
                "round": body["round"],
                **settled,
            }

    def _add_programme(self, action: str, body: Columns) -> None:
        """Take in an entry about the policy, tasks, people and their assignments."""
        match action:
            case "policy":
                self.policy = {name: value for name, value in body.items() if name != "row"}
            case "person added" | "person changed":
                account = self.people.setdefault(body["person"], {})
                account |= {name: body[name] for name in ("name", "role", "active", "password") if name in body}
            case "task":
                self.tasks[body["task"]] = body["digest"]
            case "paused" | "resumed":
                chosen = {body["task"]} if body["task"] else set(self.tasks)
                self.paused = self.paused | chosen if action == "paused" else self.paused - chosen
            case "anchors":
                self.anchors[body["task"]] = body["digest"]
            case "work assigned":
                self.assignments[body["person"]] = body["assignments"]
            case "pool":
                self.pools = {number: pool for number, pool in self.pools.items() if pool["name"] != body["name"]}
                if body["assignments"] or body["members"]:
                    lines = json.dumps(body["assignments"])
                    self.pools[body["pool"]] = {
                        "name": body["name"],
                        "members": body["members"],
                        "assignments": lines,
                    }
            case "standing":
                self.standings[body["person"], body["task"]] = _some(body, "state", "since", "exact", "papers")

    def _add_work(self, action: str, number: int, body: Columns) -> None:
        """Take in an entry about rows, decisions, alerts and messages."""
        match action:
            case "rows added":
                self.chunks.append((body["first"], body["last"], body["digest"]))
            case log.RESCORED:
                first, newest = body["digests"]
                self.rescored[body["row"]] = (self.rescored.get(body["row"], (first,))[0], newest)
            case "decided":
                self.decisions[body["decision"]] = _some(body, *_DECISION) | {"undone": False, "compared": False}
            case "undone" | "compared":
                self.decisions[body["decision"]][action] = True
            case "alert":
                handled = {"handled_by": None, "handled_at": None}
                self.alerts[body["alert"]] = _some(body, "row", "person", "task", "probability", "at") | handled
            case "alert seen":
                self.views[body["alert"], body["person"]] = _some(body, "at")
            case "alert handled":
                self.alerts[body["alert"]] |= {"handled_by": body["person"], "handled_at": body["at"]}
            case "asked" | "answered":
                self.messages[number] = _some(body, "read", "rater", "person", "at")
            case log.ROWS_ERASED:
                self.erased.append((body["rows"], body["digest"]))
                for row in body["rows"]:
                    self.rows[row] = self.rows.get(row, UNSETTLED) | {"state": ERASED}


def _some(body: Columns, *names: str) -> Columns:
    return {name: body[name] for name in names}
