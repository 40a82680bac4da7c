"""The store's JSON files: `manifest.json`, which versions are live, and `pins.json`, which others `gc` keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from scoremux_client.contract import DIGEST_PATTERN
from scoremux_engine.errors import PackageError, StoreError
from scoremux_engine.packages.span import open_span
from scoremux_engine.packages.task import TaskId
from scoremux_files.atomic import replace_file
from scoremux_files.settings import parse_model, parse_object, validate

MAX_MANIFEST_BYTES = 32 << 20
"""Largest manifest that is read: more than 150,000 tasks."""

Digest = Annotated[str, Field(pattern=f"^{DIGEST_PATTERN}$")]
_PINS = TypeAdapter(dict[Digest, TaskId])


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


class Pins:
    """`pins.json` of the store in `folder`: digest → task of versions that `gc` keeps although they are not live."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "pins.json"

    def read(self) -> dict[str, str]:
        """Return digest → task. Raises StoreError where the file is damaged."""
        try:
            with open_span(self.path) as span:
                return validate(_PINS.validate_python, parse_object(span.read_whole(MAX_MANIFEST_BYTES)))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise StoreError(f"{self.path} is damaged: {error}") from error
        except PackageError as error:
            raise StoreError(str(error)) from error

    def write(self, pins: dict[str, str]) -> None:
        """Replace the pins, atomically. Raises OSError."""
        replace_file(self.path, [json.dumps(dict(sorted(pins.items())), indent=1).encode() + b"\n"])
