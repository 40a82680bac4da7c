"""`pins.json`: versions that `gc` keeps although they are not live, by digest, with the task each is of."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import TypeAdapter

from scoremux_client.files import replace_file
from scoremux_engine.errors import PackageError, StoreError
from scoremux_engine.packages.json_object import parse_object, validate
from scoremux_engine.packages.span import open_span
from scoremux_engine.packages.task import TaskId
from scoremux_engine.store.manifest import MAX_MANIFEST_BYTES, Digest

_PINS = TypeAdapter(dict[Digest, TaskId])


class Pins:
    """The pins of the store in `folder`."""

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
