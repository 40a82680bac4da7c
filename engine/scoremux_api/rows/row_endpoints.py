"""`GET /v1/rows/{task}/{id}`: what became of a row"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Path

from scoremux_api.problems import ApiProblem, declared
from scoremux_api.rows.row_history import RowOut, history_of
from scoremux_api.services import CallerOf, Services, ServicesOf
from scoremux_api.shapes import ROW_ID
from scoremux_client.contract import TASK_ID_PATTERN
from scoremux_review.database import api_rows

router = APIRouter()


@asynccontextmanager
async def committing(services: Services) -> AsyncIterator[None]:
    """Commit rows inside the block."""
    with services.intake.started():
        yield


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
        return history_of(connection, found)
