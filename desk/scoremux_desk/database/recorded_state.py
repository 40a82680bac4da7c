"""The content of the tables as the record has it, from its first entry to its last."""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Table

from scoremux_desk.database import log, schema
from scoremux_desk.database.schema import ERASED, Columns

UNSETTLED = {"state": "", "round": 1, "final_level": None, "final_code": "", "final_decision": None}
"""A row that has just come in, but for its state."""


@dataclass
class RecordedState:
    """The content of the tables as the record has it.

    Attributes:
        tables: By the names of tables and the keys of their rows: all other columns. Of `people` with the digest of
            the password's hash, of `anchors` by task the digest of its papers.
    """

    policy: Columns = field(default_factory=dict)
    tables: defaultdict[str, dict[Any, Any]] = field(default_factory=lambda: defaultdict(dict))
    tasks: dict[str, Columns] = field(default_factory=dict)  # digest of its levels and texts, and whether it is paused
    members: set[tuple[int, int]] = field(default_factory=set)  # pools, and people in them
    chunks: list[tuple[int, int, str]] = field(default_factory=list)  # first and last id, and digest, of rows
    rows: dict[int, Columns] = field(default_factory=dict)  # state, round and final score, if not as the row came in
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
            self.rows[row] = {"state": body["state"], "round": body["round"], **settled}

    def _add_programme(self, action: str, body: Columns) -> None:
        """Take in an entry about the policy, tasks, people and their assignments."""
        match action:
            case "policy":
                self.policy = {name: value for name, value in body.items() if name != "row"}
            case "person added" | "person changed":
                account = self.tables["people"].setdefault(body["person"], {})
                account |= {name: body[name] for name in ("name", "role", "active", "password") if name in body}
            case "task":
                self.tasks.setdefault(body["task"], {"paused": False})["digest"] = body["digest"]
            case "paused" | "resumed":
                for task in self.tasks if body["task"] == "" else self.tasks.keys() & {body["task"]}:
                    self.tasks[task]["paused"] = action == "paused"
            case "anchors":
                self.tables["anchors"][body["task"]] = body["digest"]
            case "work assigned":
                person = body["person"]
                others = {n: a for n, a in self.tables["assignments"].items() if a["person"] != person}
                self.tables["assignments"] = others
                for number, tasks, quota in body["assignments"]:
                    others[number] = {"person": person, "tasks": tasks, "quota": quota}
            case "pool":
                self._replace_pool(body["name"], body["pool"], body["assignments"], body["members"])
            case "standing":
                self.tables["standings"][body["person"], body["task"]] = _columns(schema.standings, body)

    def _replace_pool(self, name: str, number: int, assignments: list[Any], members: list[int]) -> None:
        pools = self.tables["pools"]
        for before in [n for n, pool in pools.items() if pool["name"] == name]:
            del pools[before]
            self.members = {member for member in self.members if member[0] != before}
        if assignments:
            pools[number] = {"name": name, "assignments": json.dumps(assignments)}
        self.members |= {(number, person) for person in members}

    def _add_work(self, action: str, number: int, body: Columns) -> None:
        """Take in an entry about rows, decisions, alerts and messages."""
        match action:
            case "rows added":
                self.chunks.append((body["first"], body["last"], body["digest"]))
            case "decided":
                counts = {"undone": False, "compared": False}
                self.tables["decisions"][body["decision"]] = _columns(schema.decisions, body, counts)
            case "undone" | "compared":
                self.tables["decisions"][body["decision"]][action] = True
            case "alert":
                handled = {"handled_by": None, "handled_at": None}
                self.tables["alerts"][body["alert"]] = _columns(schema.alerts, body, handled)
            case "alert seen":
                self.tables["alert_views"][body["alert"], body["person"]] = _columns(schema.alert_views, body)
            case "alert handled":
                self.tables["alerts"][body["alert"]] |= {"handled_by": body["person"], "handled_at": body["at"]}
            case "asked" | "answered":
                self.tables["messages"][number] = _columns(schema.messages, body)
            case log.ROWS_ERASED:
                self.erased.append((body["rows"], body["digest"]))
                for row in body["rows"]:
                    self.rows[row] = self.rows.get(row, UNSETTLED) | {"state": ERASED}


def _columns(table: Table, body: Columns, others: Columns | None = None) -> Columns:
    """Return the columns of a table's row, but for its key: as an entry has them, and others."""
    known = others or {}
    names = (column.name for column in table.columns if not column.primary_key and column.name not in known)
    return {name: body[name] for name in names} | known
