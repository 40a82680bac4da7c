"""Whether the API lives."""

from __future__ import annotations

from fastapi import APIRouter, Response

router = APIRouter()


@router.get("/healthz")
async def healthz() -> Response:
    """Answer as long as the process lives."""
    return Response("ok\n", media_type="text/plain")
