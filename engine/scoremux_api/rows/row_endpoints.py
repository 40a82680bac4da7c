"""`GET /v1/rows/{task}/{id}`: what became of a row: `machine` → `pending` → `final` → `corrected`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from scoremux_api.problems import ApiProblem, declared
from scoremux_api.services import CallerOf, ServicesOf
from scoremux_api.shapes import ROW_ID
from scoremux_client.contract import MACHINE, TASK_ID_PATTERN
from scoremux_review.database import api_rows, log
from scoremux_review.database.connection import Connection

_MOST_ENTRIES = 1_000
router = APIRouter()
RowState = Literal["machine", "pending", "final", "corrected"]


class RowChange(BaseModel):
    """A row at one time."""

    at: datetime
    state: RowState = Field(
        description="`machine`: the machine's level counts (people may read the row behind it); `pending`: people have "
        "not decided yet; `final`: they have; `corrected`: they have decided again."
    )
    level: int | None = Field(description="Index of the level that counts, from 0; `null` while there is none.")
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


# Not `async`: the database is asked in a thread.
@router.get("/v1/rows/{task}/{id:path}", responses=declared(404))
def row(
    services: ServicesOf,
    caller: CallerOf,
    task: Annotated[str, Path(pattern=f"^{TASK_ID_PATTERN}$")],
    name: Annotated[str, Path(alias="id", pattern=ROW_ID)],
) -> RowOut:
    """Say whose level of a row counts, and what it was before. Rows that the machine decided are not kept."""
    with services.database.read() as connection:
        found = api_rows.owned(connection, caller.token, [name]).get((task, name))
        if found is None or not caller.allows(task):
            detail = "people do not read this row: the machine has decided it, or the token never sent it"
            raise ApiProblem(404, "Not found", detail)
        changes = list[RowChange]()
        for change in _changes(connection, found):
            if not changes or change.model_copy(update={"at": changes[-1].at}) != changes[-1]:
                changes.append(change)
    row: dict[str, Any] = {column: getattr(found, column) or None for column in ("reason", "route", "version")}
    row |= {"id": name, "task": task, "machine_level": _level(found), **changes[-1].model_dump()}
    return RowOut(**row, history=changes)


def _changes(connection: Connection, row: Any) -> Iterator[RowChange]:
    """Yield how a row came, and how it was after each entry of the desk's record that settles or reopens it."""

    def change(at: datetime, state: RowState, level: int | None = None, code: str = "") -> RowChange:
        return RowChange(at=at, state=state, level=level, condition=code or None)

    by_machine = row.route == MACHINE or not row.reason
    undecided: tuple[Any, ...] = ("machine", _level(row), row.condition) if by_machine else ("pending",)
    yield change(datetime.fromtimestamp(row.at, timezone.utc), *undecided)
    decided: RowState = "final"
    for entry in reversed(log.entries(connection, row.id, _MOST_ENTRIES)):
        if "final" not in entry.body:
            continue
        if entry.body["round"] > 1:
            decided, undecided = "corrected", ("pending",)
        if entry.body["state"] == "done":
            yield change(datetime.fromisoformat(entry.at), decided, *entry.body["final"][:2])
            decided = "corrected"
        else:
            yield change(datetime.fromisoformat(entry.at), *undecided)


def _level(row: Any) -> int | None:
    return row.level if row.level >= 0 else None
