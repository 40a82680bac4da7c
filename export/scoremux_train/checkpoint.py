"""Checkpoints: the whole state of training in one file, replaced in one step."""

from __future__ import annotations

import time
from dataclasses import fields
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from scoremux_files.atomic import replacing
from scoremux_train.training.trainer import State


class Checkpoint:
    """Keeps a stage's state in `folder`. fingerprint: of all that decides the result; another's file is not read."""

    def __init__(self, folder: Path, stage: str, fingerprint: str, every_s: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{stage}.safetensors"
        self._fingerprint, self._every_s = fingerprint, every_s
        self._last_s = time.monotonic()

    def load(self) -> State | None:
        """Return where a run that was stopped was, None if there was none."""
        try:
            with safe_open(self._path, framework="pt") as file:
                if (file.metadata() or {}).get("fingerprint") != self._fingerprint:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError:
            return None
        return State(int(tensors.pop("step")), **tensors)

    def save_if_due(self, state: State) -> None:
        """Save the state if the last time was long ago."""
        if time.monotonic() - self._last_s >= self._every_s:
            self.save(state)
            self._last_s = time.monotonic()

    def save(self, state: State) -> None:
        """Save the state: the file has the old one or the new one, whole."""
        tensors = {one.name: torch.as_tensor(getattr(state, one.name)) for one in fields(State)}
        with replacing(self._path) as aside:
            save_file(tensors, aside, metadata={"fingerprint": self._fingerprint})
