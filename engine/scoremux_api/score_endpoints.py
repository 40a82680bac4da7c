"""`POST /v1/score`: rows in, the same rows with their outcomes out."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from scoremux_api.problems import body_of, declared
from scoremux_api.rows.live_intake import Arrival, describe_alerts
from scoremux_api.services import caller_of, services_of
from scoremux_api.shapes import ScoreAnswer, ScoreRequest, as_json_row, response_of
from scoremux_client.rows import is_text

MOST_BYTES = 8 << 20
router = APIRouter()
_BODY = {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ScoreRequest"}}}}


@router.post(
    "/v1/score",
    response_model=ScoreAnswer,
    responses=declared(409, 413, 502, 504),
    openapi_extra={"requestBody": _BODY},
)
async def score(request: Request) -> Response:
    """Score up to 512 rows; a row that cannot be scored gets a status, and its neighbours their scores."""
    services, caller = services_of(request), caller_of(request)
    rows = parsed(await body_of(request, MOST_BYTES)).rows
    sent, alert = [response_of(row) for row in rows], services.settings.alert
    alerting = services.callers.may_also_score(caller, alert.task) if alert else caller
    scored, alerts = await asyncio.gather(
        services.scorer.score(caller, sent), describe_alerts(services.scorer, alert, alerting, sent)
    )
    outcomes = zip(rows, scored, alerts, strict=True)
    await services.intake.commit(
        caller.token, [Arrival(row.id, row.task, row.text, outcome, alert) for row, outcome, alert in outcomes]
    )
    return Response(orjson.dumps({"rows": [as_json_row(row) for row in scored]}), media_type="application/json")


def parsed(body: bytes) -> ScoreRequest:
    """Read a request. Raises ValidationError.

    A text with half of a surrogate pair, which JSON can write and UTF-8 cannot, counts as missing.
    """
    try:
        return ScoreRequest.model_validate_json(body)
    except ValidationError as error:
        if b"\\u" not in body:
            raise
        try:
            values = json.loads(body)
        except (ValueError, RecursionError):
            raise error from None
    return ScoreRequest.model_validate(_without_halves(values))


def _without_halves(values: Any) -> Any:
    rows = values.get("rows") if isinstance(values, dict) else None
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(row.get("text"), str) and not is_text(row["text"]):
            row["text"] = None
    return values
