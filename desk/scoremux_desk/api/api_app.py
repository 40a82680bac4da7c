"""The application: which endpoints there are, and what runs beside them; `/healthz` and `/readyz` are here."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio.from_thread import start_blocking_portal
from fastapi import APIRouter, FastAPI
from fastapi.responses import PlainTextResponse
from fastapi_offline import FastAPIOffline
from pydantic.json_schema import models_json_schema

from scoremux_desk.api import problems, task_endpoints
from scoremux_desk.api.batches import batch_endpoints
from scoremux_desk.api.batches.batch_runner import BatchRunner
from scoremux_desk.api.rows import row_endpoints
from scoremux_desk.api.services import Services, ServicesOf
from scoremux_desk.api.shapes import ScoreRequest
from scoremux_desk.api.webhooks import webhook_endpoints
from scoremux_desk.api.webhooks.deliverer import Deliverer

_status = APIRouter()


def create_app(services: Services) -> FastAPI:
    """Return the application. It closes nothing of `services`."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Receivers of webhooks can keep a loop busy: theirs is another one than that of requests.
        with BatchRunner(services).started(), start_blocking_portal() as webhook_loop:
            in_force = services.callers.in_force
            deliverer = Deliverer(services.database, services.addresses, in_force=in_force)
            delivering = webhook_loop.start_task_soon(deliverer.run)
            try:
                yield
            finally:
                delivering.cancel()

    app = FastAPIOffline(
        title="scoremux",
        version="1",
        summary="Scores of student responses, jobs, and the decisions of people.",
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
        openapi_url="/v1/openapi.json",
        redoc_url=None,
        static_url="/docs/static",
        redirect_slashes=False,  # the URL would begin with http://, and take the token there
    )
    app.state.services = services
    problems.add_handlers(app)
    for module in (row_endpoints, task_endpoints, webhook_endpoints, batch_endpoints):
        app.include_router(module.router)
    app.include_router(_status)
    document = app.openapi
    app.openapi = lambda: _described(document())  # type: ignore[method-assign]
    return app


def _described(document: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI document with the shapes that bodies of bytes have, and the token."""
    shapes = (problems.ProblemBody, ScoreRequest, webhook_endpoints.WebhookRequest)
    _, extra = models_json_schema([(s, "validation") for s in shapes], ref_template="#/components/schemas/{model}")
    components = document["components"]
    components["schemas"] = dict(sorted({**extra["$defs"], **components["schemas"]}.items()))
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {**document, "security": [{"token": []}]}


@_status.get("/healthz", response_class=PlainTextResponse)
async def healthz() -> str:
    """Answer as long as the process lives."""
    return "ok\n"


@_status.get("/readyz", response_class=PlainTextResponse, responses=problems.declared(504))
async def readyz(services: ServicesOf) -> str:
    """Answer 200 if the database and the scoring server do, and there is room for rows."""
    await asyncio.to_thread(services.check_room)
    await asyncio.gather(asyncio.to_thread(services.database.is_there), services.scorer.check())
    return "ok\n"
