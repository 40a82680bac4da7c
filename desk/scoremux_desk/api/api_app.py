"""The application: which endpoints there are, and what runs beside them; `/healthz` and `/readyz` are here."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse, PlainTextResponse
from fastapi_offline import FastAPIOffline
from pydantic.json_schema import models_json_schema

from scoremux_desk.api import change_endpoints, problems, row_endpoints, task_endpoints
from scoremux_desk.api.services import Services, ServicesOf
from scoremux_desk.api.shapes import ScoreRequest
from scoremux_desk.database import log
from scoremux_desk.database.connection import Database
from scoremux_desk.erasure import expire
from scoremux_desk.errors import DatabaseError
from scoremux_files import InputError

_TIDY_S = 3600.0
_DAY_S, _HOURS = 86_400.0, 24
_status = APIRouter(tags=["Status"])
_log = logging.getLogger(__name__)


def create_app(services: Services) -> FastAPI:
    """Return the application. It closes nothing of `services`."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(lambda: services.intake.kept)  # read now, or a request waits for it
        tidying = asyncio.create_task(_tidy(services))
        try:
            yield
        finally:
            services.followers.stop()
            tidying.cancel()

    app = FastAPIOffline(
        title="scoremux",
        version="1",
        summary="Scores of student responses, and the decisions of people.",
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        static_url="/docs/static",
        redirect_slashes=False,  # the URL would begin with http://, and take the token there
    )
    app.state.services = services
    problems.add_handlers(app)
    for module in (row_endpoints, task_endpoints, change_endpoints):
        app.include_router(module.router)
    app.include_router(_status)
    document = app.openapi
    app.openapi = lambda: _described(document())  # type: ignore[method-assign]
    return app


def _described(document: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI document with the shapes that bodies of bytes have, and the token."""
    shapes = (problems.ProblemBody, ScoreRequest)
    _, extra = models_json_schema([(s, "validation") for s in shapes], ref_template="#/components/schemas/{model}")
    components = document["components"]
    components["schemas"] = dict(sorted({**extra["$defs"], **components["schemas"]}.items()))
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {**document, "security": [{"token": []}]}


async def _tidy(services: Services) -> None:
    """Erase rows that are too old, each hour, unless the clock seems wrong.

    It seems wrong while it is more than a day ahead of the record's newest entry and of the last tidying. What this run
    records has the time of the same clock, so its entries count after a day alone, for a desk that was idle before.
    """
    database = services.database
    known_s, hours_in_doubt = 0.0, 0
    while (keep_days := services.keep_days) is not None:
        try:
            now_s = database.now()
            if hours_in_doubt % _HOURS == 0:  # once a day
                known_s = max(known_s, await asyncio.to_thread(_newest_entry_s, database, now_s))
            if now_s - known_s > _DAY_S:
                hours_in_doubt += 1
                ahead = "old rows are kept: the clock is %d days ahead of the record's newest entry; check it"
                _log.warning(ahead, (now_s - known_s) // _DAY_S)
            else:
                before = now_s - keep_days * _DAY_S
                erased = await asyncio.to_thread(expire, database, before, f"scoremux api --keep-days {keep_days}")
                known_s, hours_in_doubt = now_s, 0
                if erased:
                    _log.warning("erased %d rows: older than %d days", erased, keep_days)
        except (DatabaseError, InputError) as error:
            _log.warning("old rows are kept for now: %s", error)
        await asyncio.sleep(_TIDY_S)


def _newest_entry_s(database: Database, now_s: float) -> float:
    """Return when the record's newest entry was written, in seconds since the epoch; `now_s` where it is empty."""
    with database.read() as connection:
        newest = log.entries(connection, most=1)
    return datetime.fromisoformat(newest[0].at).timestamp() if newest else now_s


@_status.get("/docs", include_in_schema=False)
async def docs() -> FileResponse:
    """Show the operations, without the network."""
    return FileResponse(Path(__file__).with_name("docs.html"))


@_status.get("/healthz", summary="Whether the process lives", response_class=PlainTextResponse)
async def healthz() -> str:
    """Answer as long as the process lives."""
    return "ok\n"


@_status.get(
    "/readyz",
    summary="Whether requests would be answered",
    response_class=PlainTextResponse,
    responses=problems.declared(504),
)
async def readyz(services: ServicesOf) -> str:
    """Answer 200 if the database and the scoring server do, and there is room for rows."""
    await asyncio.to_thread(services.check_room)
    await asyncio.gather(asyncio.to_thread(services.database.is_there), services.scorer.check())
    return "ok\n"
