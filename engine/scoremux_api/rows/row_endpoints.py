"""`GET /v1/rows/{task}/{id}`: what became of a row; and how long rows and stored answers are kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from typing import Annotated

from fastapi import APIRouter, Path

from scoremux_api.problems import ApiProblem, declared
from scoremux_api.rows.row_history import RowOut, history_of
from scoremux_api.services import CallerOf, Services, ServicesOf
from scoremux_api.shapes import ROW_ID
from scoremux_client.contract import TASK_ID_PATTERN
from scoremux_review.database import api_rows
from scoremux_review.erasure import expire
from scoremux_review.errors import DatabaseError

_EXPIRY_S = 3600.0

router = APIRouter()
_logger = logging.getLogger(__name__)


@asynccontextmanager
async def running(services: Services) -> AsyncIterator[None]:
    """Commit rows, and erase those that are older than `--keep-days`, inside the block."""
    with services.intake.started():
        keep_days = services.settings.keep_days
        erasing = asyncio.create_task(_erase_hourly(services, keep_days)) if keep_days is not None else None
        try:
            yield
        finally:
            if erasing:
                erasing.cancel()


async def _erase_hourly(services: Services, keep_days: int) -> None:
    while True:
        before = datetime.fromtimestamp(services.database.now(), timezone.utc) - timedelta(days=keep_days)
        try:
            await asyncio.to_thread(expire, services.database, before, f"scoremux api --keep-days {keep_days}")
        except DatabaseError as error:
            _logger.warning("older rows and answers are erased later: %s", error)
        await asyncio.sleep(_EXPIRY_S)


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
