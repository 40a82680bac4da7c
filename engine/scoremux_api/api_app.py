"""The application: which endpoints there are, and what runs beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from scoremux_api import problems, score_endpoints, status_endpoints, task_endpoints
from scoremux_api.api_metrics import CountedRequests
from scoremux_api.batches import batch_endpoints
from scoremux_api.rows import row_endpoints
from scoremux_api.services import Services
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
    row_endpoints.running,
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
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = services
    app.add_middleware(CountedRequests, metrics=services.metrics)
    problems.add_handlers(app)
    for router in _ROUTERS:
        app.include_router(router)
    return app
