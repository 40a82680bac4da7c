"""`manifest.json`: which version of each task is live."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from scoremux_client.contract import DIGEST_PATTERN
from scoremux_engine.errors import StoreError
from scoremux_engine.packages.json_object import parse_model
from scoremux_engine.packages.task import TaskId

MAX_MANIFEST_BYTES = 32 << 20
"""Largest manifest that is read: more than 150,000 tasks."""

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

    @classmethod
    def parse(cls, data: bytes, path: Path) -> Manifest:
        """Parse the file's content, read from `path`. Raises StoreError saying what is damaged."""
        try:
            return parse_model(cls, data)
        except ValueError as error:
            raise StoreError(f"{path} is damaged: {error}") from error
