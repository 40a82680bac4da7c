"""The state of training, and the file that keeps all of it, replaced in one step."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from scoremux_files.atomic import replacing
from scoremux_files.errors import writing
from scoremux_train.errors import TrainError

FORMAT = "1"


@dataclass
class TrainingState:
    """Where training is after `step` steps, over T tables.

    Attributes:
        values, first, second: The tables and AdamW's two moments of them, float32 [T, width].
    """

    step: int
    values: Tensor
    first: Tensor
    second: Tensor

    @classmethod
    def begin(cls, values: Tensor) -> "TrainingState":
        """Return the state before the first step."""
        return cls(0, values, torch.zeros_like(values), torch.zeros_like(values))


class Checkpoint:
    """Keeps the state in `folder`. fingerprint: of all that decides the result; another's file is not read."""

    def __init__(self, folder: Path, fingerprint: str, every_s: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "tasks.safetensors"
        self._metadata = {"format": FORMAT, "fingerprint": fingerprint}
        self._every_s, self._last_s = every_s, time.monotonic()

    def load(self) -> TrainingState | None:
        """Return where a run that was stopped was, None if there was none. Raises TrainError for another format."""
        try:
            with safe_open(self._path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise TrainError(
                        f"{self._path} is a checkpoint of another version of scoremux; remove {self._path.parent} to "
                        "train from the start"
                    )
                if metadata != self._metadata:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError:
            return None
        return TrainingState(int(tensors.pop("step")), **tensors)

    def save_if_due(self, state: TrainingState) -> None:
        """Save the state if the last time was long ago."""
        if time.monotonic() - self._last_s >= self._every_s:
            self.save(state)
            self._last_s = time.monotonic()

    def save(self, state: TrainingState) -> None:
        """Save the state: the file has the old one or the new one, whole."""
        tensors = {field.name: torch.as_tensor(getattr(state, field.name)) for field in fields(TrainingState)}
        with writing(self._path), replacing(self._path) as aside:
            save_tensors(tensors, aside, self._metadata)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file. Raises OSError where the system refuses, such as on a full disk."""
    try:
        save_file(dict(tensors), path, metadata=metadata)
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        raise OSError(int(code[1]) if code else 0, str(error)) from error
