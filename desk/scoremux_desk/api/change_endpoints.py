"""`GET /v1/changes`: what people decided about a token's rows; and answers for endpoints that are gone."""

import time
from datetime import datetime
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from scoremux_desk.api.problems import ApiProblem, Described, declared
from scoremux_desk.api.services import CallerOf, ServicesOf
from scoremux_desk.api.shapes import example
from scoremux_desk.errors import LostCursorError
from scoremux_desk.reading import change_feed

MOST_WAIT_S = 50
"""Shorter than the front door waits for anything of a client."""
router = APIRouter(tags=["Changes"])
_PAGE = "desk/scoremux_desk/api/README.md"
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class FeedChange(Described):
    """What people decided about a row. Of an erased row only cursor, type, task and time are left."""

    model_config = example(
        cursor="128-0b6e…",
        type="final",
        task="en-6.3-ipp",
        id="r1",
        level=2,
        score=0.5,
        condition=None,
        reason="LOW_CONFIDENCE",
        machine_level=1,
        total=None,
        at="2026-11-30T09:00:00Z",
    )

    cursor: str
    """What names this change: `after` it come the later ones."""
    type: Literal["final", "corrected", "erased"]
    """`final`: people decided the row for the first time; `corrected`: they decided it again; `erased`: it is gone."""
    task: str
    id: str | None
    level: int | None
    """Index of the level that counts, from 0."""
    score: float | None
    """The points that this level is worth."""
    condition: str | None
    """Code of a response that is no attempt."""
    reason: str | None
    """Why people read the row, such as `LOW_CONFIDENCE`."""
    machine_level: int | None
    total: float | None
    """Of a trait, its item's total by the levels that count when you ask; null while a trait has no score."""
    at: datetime


class ChangeList(BaseModel):
    """Changes in the order in which they were committed."""

    changes: list[FeedChange]
    cursor: str
    """The next request's `after`, also where there is no change."""


@router.get("/v1/changes", summary="Follow what people decide", response_model=ChangeList, responses=declared(410))
async def list_changes(
    services: ServicesOf,
    caller: CallerOf,
    after: Annotated[
        str | None, Query(pattern=change_feed.CURSOR, description="A cursor; without it the oldest changes come.")
    ] = None,
    wait: Annotated[
        int, Query(ge=0, le=MOST_WAIT_S, description="Most seconds to wait for a change if there is none.")
    ] = 0,
) -> Response:
    """List up to 500 changes of the token's rows after a cursor. Keep the last cursor, and ask again after it."""
    ends_at = time.monotonic() + wait
    try:
        page = await services.followers.page(caller.namespace, after)
        while not page.changes:
            left_s = ends_at - time.monotonic()
            if page.is_last and (
                left_s <= 0 or not await services.followers.wait(caller.namespace, page.number, left_s)
            ):
                break
            page = await services.followers.page(caller.namespace, page.cursor)
    except LostCursorError as error:
        raise ApiProblem(410, "Cursor lost", f"{error}; see {_PAGE}#changes") from error
    services.callers.check_in_force(caller)
    content = orjson.dumps({"changes": page.changes, "cursor": page.cursor})
    return Response(content, media_type="application/json")


@router.api_route("/v1/webhooks{_:path}", methods=_METHODS, include_in_schema=False)
@router.api_route("/v1/batches{_:path}", methods=_METHODS, include_in_schema=False)
async def removed(request: Request) -> None:
    """Say what took the place of an endpoint."""
    detail = f"batches are gone: send up to 512 rows to POST /v1/score, several requests at once; see {_PAGE}#many-rows"
    if request.url.path.startswith("/v1/webhooks"):
        detail = f"webhooks are gone: ask GET /v1/changes; see {_PAGE}#changes"
    raise ApiProblem(410, "Endpoint removed", detail)
