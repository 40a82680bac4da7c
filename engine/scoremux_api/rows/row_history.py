"""What became of a row: `machine` → `pending` → `final` → `corrected`, from the record of the desk.

The record holds every change of a row with its time. Who decided is in it, too, and stays there.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from enum import Enum
from typing import Any

from pydantic import BaseModel, Field

from scoremux_client.contract import MACHINE
from scoremux_review.database import log, programme
from scoremux_review.database.connection import Connection

_MOST_ENTRIES = 1_000


class RowState(str, Enum):
    """Whose level counts."""

    MACHINE = "machine"
    PENDING = "pending"
    FINAL = "final"
    CORRECTED = "corrected"


class RowChange(BaseModel):
    """A row at one time."""

    at: datetime
    state: RowState = Field(
        description="`machine`: the machine's level counts (people may read the row behind it); `pending`: people have "
        "not decided yet; `final`: they have; `corrected`: they have decided again."
    )
    level: int | None = Field(description="Index of the level that counts, from 0; `null` while there is none.")
    score: float | None = Field(description="The points that the level is worth.")
    condition: str | None = Field(description="Code of a response that is no attempt.")


class RowOut(RowChange):
    """A row that people read, or may, and what became of it."""

    id: str
    task: str
    reason: str | None = Field(description="Why people read it, such as `LOW_CONFIDENCE`.")
    machine_level: int | None
    route: str | None
    version: str | None = Field(description="Digest of the task version that the machine scored it with.")
    history: list[RowChange] = Field(description="All changes of state or level, the first one first.")


def history_of(connection: Connection, row: Any) -> RowOut:
    """Return a row with its history; row: as `api_rows.owned` returns it."""
    points, changes = programme.item_of(connection, row.task).levels, list[RowChange]()
    machine_level = row.level if row.level >= 0 else None
    for at, state, level, code in _states(connection, row, machine_level):
        score = points[level] if level is not None and level < len(points) else None
        change = RowChange(at=at, state=state, level=level, score=score, condition=code or None)
        if not changes or change.model_copy(update={"at": changes[-1].at}) != changes[-1]:
            changes.append(change)
    outcome: dict[str, Any] = {name: getattr(row, name) or None for name in ("reason", "route", "version")}
    newest = changes[-1].model_dump()
    return RowOut(**newest, id=row.name, task=row.task, machine_level=machine_level, **outcome, history=changes)


def _states(connection: Connection, row: Any, machine_level: int | None) -> Iterator[tuple[Any, ...]]:
    """Yield when the row came or was changed, its state then, and the level and condition code that counted."""
    by_machine = row.route == MACHINE or not row.reason
    undecided = (RowState.MACHINE, machine_level, row.condition) if by_machine else (RowState.PENDING, None, "")
    yield datetime.fromtimestamp(row.at, timezone.utc), *undecided
    decided = RowState.FINAL
    for entry in reversed(log.entries(connection, row.id, _MOST_ENTRIES)):
        if "final" not in entry.body:
            continue
        if entry.body["round"] > 1:
            decided, undecided = RowState.CORRECTED, (RowState.PENDING, None, "")
        if entry.body["state"] == "done":
            yield datetime.fromisoformat(entry.at), decided, *entry.body["final"][:2]
            decided = RowState.CORRECTED
        else:
            yield datetime.fromisoformat(entry.at), *undecided
