"""`POST /v1/score`: rows in, the same rows with their outcomes out."""

from __future__ import annotations

import asyncio
from functools import partial

import orjson
from fastapi import APIRouter, Request, Response

from scoremux_api.callers import Caller
from scoremux_api.idempotency import KeyHeader, answered_once
from scoremux_api.problems import body_of, declared
from scoremux_api.rows.live_intake import ScoredArrival
from scoremux_api.services import Services, caller_of, services_of
from scoremux_api.shapes import ScoreAnswer, ScoreRequest, as_json_row, body_shape, parsed
from scoremux_client.contract import MAX_BATCH_ROWS
from scoremux_client.rows import Response as Row

MOST_BYTES = 8 << 20
_LIMITS = {"scoremux-limits": f"rows={MAX_BATCH_ROWS}, bytes={MOST_BYTES}"}
router = APIRouter()


@router.post(
    "/v1/score",
    response_model=ScoreAnswer,
    responses=declared(409, 413, 502, 504),
    openapi_extra=body_shape(ScoreRequest),
)
async def score(request: Request, key: KeyHeader = None) -> Response:
    """Score up to 512 rows; a row that cannot be scored gets a status, and its neighbours their scores."""
    services, caller = services_of(request), caller_of(request)
    body = await body_of(request, MOST_BYTES)
    work = partial(_score, services, caller, body)
    return await answered_once(services.database, caller, key, request, body, work)


async def _score(services: Services, caller: Caller, body: bytes) -> Response:
    rows = parsed(ScoreRequest, body).rows
    sent = [Row(row.task, row.text, row.id) for row in rows]
    scored, alerts = await asyncio.gather(services.scorer.score(caller, sent), services.alerts(caller, sent))
    outcomes = zip(rows, scored, alerts, strict=True)
    await services.intake.commit(caller.token, [ScoredArrival(row.text, *outcome) for row, *outcome in outcomes])
    content = orjson.dumps({"rows": [as_json_row(row) for row in scored]})
    return Response(content, headers=_LIMITS, media_type="application/json")
