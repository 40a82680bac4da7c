"""`GET /v1/tasks`: the tasks that a token may score, and what the desk knows of them."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from scoremux_api.problems import declared
from scoremux_api.services import CallerOf, ServicesOf

router = APIRouter()


class TaskOut(BaseModel):
    """A task of the scoring server."""

    id: str
    version: str = Field(description="Digest of the live version.")
    points: list[float] = Field(description="What each level is worth, the lowest level first.")


class TaskList(BaseModel):
    """The tasks that the token may score."""

    tasks: list[TaskOut]


@router.get("/v1/tasks", responses=declared(502, 504))
async def tasks(services: ServicesOf, caller: CallerOf) -> TaskList:
    """List the tasks that the token may score."""
    served = await services.scorer.tasks(caller)
    return TaskList(tasks=[TaskOut(id=task.id, version=task.version, points=list(task.levels)) for task in served])
