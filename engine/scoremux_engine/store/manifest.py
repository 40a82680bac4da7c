"""The store's JSON files.

`manifest.json` has the live versions, `pins.json` others that `gc` keeps, and `looks.json` the tests of promises in
versions that `gc` removed. `levels.jsonl` has the levels of versions, so that a start need not open each package; a
version that it lacks is read from its package.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field

from scoremux_client.contract import DIGEST_PATTERN
from scoremux_decide.decision import Look
from scoremux_engine.errors import StoreError
from scoremux_engine.packages.task import Scale, TaskId
from scoremux_files.settings import parse_object, quote, validate

MANIFEST_JSON = "manifest.json"
PINS_JSON = "pins.json"
LOOKS_JSON = "looks.json"
LEVELS_JSONL = "levels.jsonl"

MAX_MANIFEST_BYTES = 32 << 20
"""Largest manifest that is read: more than 150,000 tasks."""

Digest = Annotated[str, Field(pattern=f"^{DIGEST_PATTERN}$")]


class StoreFile(BaseModel):
    """Base of all JSON files of a store."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1

    def to_json(self) -> bytes:
        return self.model_dump_json(indent=1).encode() + b"\n"


StoreFileT = TypeVar("StoreFileT", bound=StoreFile)


class Manifest(StoreFile):
    """The live version of every task, and the backbone they were checked against.

    Format 2: a package may have `trained.json`, which scoremux 0.1 would leave out of versions that it makes.
    """

    format: Literal[1, 2] = 1  # type: ignore[assignment]
    backbone: Digest
    tasks: dict[TaskId, Digest] = {}


class PinnedVersions(StoreFile):
    """Digest → task of the versions that `gc` keeps although they are not live."""

    pins: dict[Digest, TaskId] = {}


class VersionLevels(BaseModel, frozen=True):
    """A line of `levels.jsonl`."""

    digest: Digest
    scale: Scale


class RemovedLooks(StoreFile):
    """Tests of promises, by task, that were in removed versions: they count all the same."""

    looks: dict[TaskId, tuple[Look, ...]] = {}


def parse_store_file(model: type[StoreFileT], data: bytes, path: Path) -> StoreFileT:
    """Parse the content of a store's file. Raises StoreError where it is damaged, or of another format."""
    try:
        content = parse_object(data)
        formats = get_args(model.model_fields["format"].annotation)
        if content.get("format") not in formats:
            other = f"has format {quote(content['format'])}" if "format" in content else "has no format"
            raise StoreError(
                f"{path} {other}, and this version of scoremux reads format {formats[-1]}; "
                "publish the adapters again, into a new store, with `scoremux tasks add`"
            )
        return validate(model.model_validate, content)
    except ValueError as error:
        raise StoreError(f"{path} is damaged: {error}") from error
