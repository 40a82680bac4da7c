"""A task package: one version of one task on disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from scoremux_engine.backbone import Backbone
from scoremux_engine.digests import set_digest
from scoremux_engine.errors import PackageError
from scoremux_engine.packages.adapter_config import AdapterConfig
from scoremux_engine.packages.source import (
    CARD,
    CONFIG_JSON,
    FILES,
    MAX_CARD_BYTES,
    TASK_JSON,
    TENSORS,
    Folder,
    Source,
    package_digest,
)
from scoremux_engine.packages.task import MAX_JSON_BYTES, Task
from scoremux_engine.packages.tensor_file import TensorFile
from scoremux_engine.packages.tensors import AdapterTables, make_tables

__all__ = ["FILES", "TaskPackage", "package_digest"]

LEAST_ROOM_TOKENS = 64
"""Tokens of a response that an input must leave room for."""


@dataclass(frozen=True)
class TaskPackage:
    """A checked package, with its tables in memory. `digest` is the sha256 of its files' names and bytes."""

    task: Task
    digest: str
    tables: AdapterTables

    @property
    def outputs(self) -> int:
        """Width of its head: the number of its levels, or 1 for a value in points."""
        return self.tables.outputs

    @classmethod
    def read(cls, source: Path | Source, backbone: Backbone) -> TaskPackage:
        """Read and check a folder, or another source, in full. Raises PackageError naming what is wrong.

        Every file is read once: what was checked and what the digest says are the same bytes.
        """
        with (Folder(source) if isinstance(source, Path) else source).spans() as spans:
            described = spans[TASK_JSON].read_whole(MAX_JSON_BYTES)
            configured = spans[CONFIG_JSON].read_whole(MAX_JSON_BYTES)
            task = Task.parse(described, spans[TASK_JSON].path)
            config = AdapterConfig.parse(configured, spans[CONFIG_JSON].path)
            file = TensorFile.open(spans[TENSORS])
            _refuse_no_room(task, spans[TASK_JSON].path, backbone)
            tables, tensors_digest = make_tables(file, config, backbone, len(task.levels))
            texts = {TASK_JSON: described, CONFIG_JSON: configured}
            if CARD in spans:
                texts[CARD] = spans[CARD].read_whole(MAX_CARD_BYTES)
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in texts.items()}
        return cls(task, set_digest({**digests, TENSORS: tensors_digest}), tables)


def _refuse_no_room(task: Task, path: Path, backbone: Backbone) -> None:
    """Raise PackageError if the input of a task leaves too little of what the backbone takes to the response."""
    if task.layout is None:
        return
    room = backbone.tokenizer.room(task.layout.render(""))
    if room < LEAST_ROOM_TOKENS:
        raise PackageError(
            f"{path}: input: the text around the response has {backbone.spec.max_tokens - room} of the "
            f"{backbone.spec.max_tokens} tokens that the backbone takes; leave {LEAST_ROOM_TOKENS} to the response"
        )
