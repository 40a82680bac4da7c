"""Digests of the scores that a machine computes, in a file: written on one machine, compared with another's."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from scoremux_files.atomic import replace_file
from scoremux_files.errors import InputError, reading, writing
from scoremux_files.settings import parse_model

_LIBRARIES = ("scoremux", "openvino", "onnxruntime", "onnxruntime-gpu", "numpy")


class MachineScores(BaseModel):
    """The scores of one machine: digests by arithmetic and version of a task, and of the measurements (`probes`)."""

    format: Literal[1]
    processor: str
    libraries: dict[str, str]
    backbone: str
    digests: dict[str, dict[str, str]]
    probes: dict[str, str] = {}

    @classmethod
    def read(cls, path: Path) -> "MachineScores":
        """Read a file of another machine. Raises InputError."""
        with reading(path):
            data = path.read_bytes()
        try:
            return parse_model(cls, data)
        except ValueError as error:
            raise InputError(f"{path} was not written by `scoremux selftest --write`: {error}") from error

    def write(self, path: Path) -> None:
        """Write them to a file. Raises InputError."""
        with writing(path):
            replace_file(path, [json.dumps(self.model_dump(), indent=1).encode()], mode=None)

    def compare(self, there: "MachineScores", path: Path) -> tuple[list[str], bool]:
        """Say what is equal in another machine's file; return also whether something is, and nothing differs."""
        other, sentences = f"{path} ({there.processor})", list[str]()
        if self.backbone != there.backbone:
            return [f"{other} is of another backbone: {there.backbone[:12]}, here {self.backbone[:12]}"], False
        equal = differs = 0
        for arithmetic in sorted({*self.digests, *there.digests}):
            mine, theirs = (side.digests.get(arithmetic) for side in (self, there))
            if mine is None or theirs is None:
                sentences.append(f"{arithmetic}: {'only here' if theirs is None else f'only in {path}'}")
                continue
            common = sorted({*mine} & {*theirs})
            other_tasks = [task for task in common if mine[task] != theirs[task]]
            equal += len(common) - len(other_tasks)
            differs += len(other_tasks)
            if other_tasks:
                sentence = f"{len(other_tasks)} of {len(common)} task versions differ, as {other_tasks[0]}"
            else:
                digest = hashlib.sha256("".join(mine[task] for task in common).encode()).hexdigest()[:12]
                sentence = f"{len(common)} task versions have the bits of {other}, digest {digest}"
            sentences.append(f"{arithmetic}: {sentence}")
        sentences += _other_libraries(self.libraries, there.libraries) if differs else ()
        if not equal and not differs:
            sentences.append(
                f"nothing to compare: {path} has no arithmetic and task version in common with this machine"
            )
        return sentences, bool(equal) and not differs


def installed_libraries() -> dict[str, str]:
    """Return the versions of those that are installed: one of the two of ONNX Runtime is not."""
    versions = {}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def _other_libraries(here: Mapping[str, str], there: Mapping[str, str]) -> Iterator[str]:
    for name in _LIBRARIES:
        at, other = (versions.get(name, "not installed") for versions in (here, there))
        if at != other:
            yield f"{name} is {at} here and {other} there"
