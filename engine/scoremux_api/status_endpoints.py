"""`/healthz` and `/readyz`: for load balancers."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Response

from scoremux_api.problems import declared
from scoremux_api.services import ServicesOf

router = APIRouter()
_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


@router.get("/healthz", response_class=Response, responses=_TEXT)
async def healthz() -> Response:
    """Answer as long as the process lives."""
    return Response("ok\n", media_type="text/plain")


@router.get("/readyz", response_class=Response, responses={**_TEXT, **declared(504)})
async def readyz(services: ServicesOf) -> Response:
    """Answer 200 if the database and the scoring server do."""
    await asyncio.gather(asyncio.to_thread(services.database.is_there), services.scorer.check())
    return Response("ok\n", media_type="text/plain")
