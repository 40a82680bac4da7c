"""`manifest.json`: which version of each task is live."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from scoremux_client.contract import DIGEST_PATTERN
from scoremux_engine.packages.task import TaskId

Digest = Annotated[str, Field(pattern=f"^{DIGEST_PATTERN}$")]


class Manifest(BaseModel):
    """The live version of every task, and the backbone they were checked against."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: Digest
    tasks: dict[TaskId, Digest] = {}

    def to_json(self) -> bytes:
        """Return the file's content, tasks sorted by id."""
        ordered = Manifest(backbone=self.backbone, tasks=dict(sorted(self.tasks.items())))
        return ordered.model_dump_json(indent=1).encode() + b"\n"
