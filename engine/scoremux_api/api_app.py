"""The application: which endpoints there are, and what runs beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from scoremux_api import problems, sandbox, score_endpoints, status_endpoints, task_endpoints
from scoremux_api.batches import batch_endpoints
from scoremux_api.rows import row_endpoints
from scoremux_api.services import Services
from scoremux_api.shapes import ScoreRequest
from scoremux_api.webhooks import webhook_endpoints

_ROUTERS = (
    score_endpoints.router,
    row_endpoints.router,
    task_endpoints.router,
    webhook_endpoints.router,
    batch_endpoints.router,
    status_endpoints.router,
)
_RUNNING: tuple[Callable[[Services], AbstractAsyncContextManager[None]], ...] = (
    lambda services: sandbox.deciding(services.database, services.scorer),
    webhook_endpoints.delivering,
    batch_endpoints.running,
)
"""What runs as long as the application does, such as the delivery of webhooks."""


def create_app(services: Services) -> FastAPI:
    """Return the application. It closes nothing of `services`."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for run in _RUNNING:
                await stack.enter_async_context(run(services))
            yield

    app = FastAPI(
        title="scoremux",
        version="1",
        summary="Scores of student responses, jobs, and the decisions of people.",
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = services
    problems.add_handlers(app)
    for router in _ROUTERS:
        app.include_router(router)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    return app


def _described(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with the shapes that bodies of bytes have, and the token."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        shapes = (problems.ProblemBody, ScoreRequest, webhook_endpoints.WebhookRequest)
        _, extra = models_json_schema([(s, "validation") for s in shapes], ref_template="#/components/schemas/{model}")
        components = document["components"]
        components["schemas"] = dict(sorted({**extra["$defs"], **components.get("schemas", {})}.items()))
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        app.openapi_schema = {**document, "security": [{"token": []}]}
    return app.openapi_schema
