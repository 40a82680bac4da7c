"""A task package: one version of one task on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scoremux_engine.backbone import Backbone
from scoremux_engine.digests import file_digest, set_digest
from scoremux_engine.errors import PackageError
from scoremux_engine.packages.adapter_config import CONFIG_JSON, AdapterConfig
from scoremux_engine.packages.task import TASK_JSON, Task
from scoremux_engine.packages.tensors import TENSORS, AdapterTables, read_tables

FILES = (CONFIG_JSON, TENSORS, TASK_JSON)


@dataclass(frozen=True)
class TaskPackage:
    """A checked package, with its tables in memory. `digest` is the sha256 of its files' names and bytes."""

    task: Task
    digest: str
    tables: AdapterTables

    @property
    def levels(self) -> int:
        return len(self.task.levels)

    @classmethod
    def read(cls, folder: Path, backbone: Backbone) -> TaskPackage:
        """Read and check a folder in full. Raises PackageError naming what is wrong."""
        task = Task.read(folder)
        config = AdapterConfig.read(folder)
        tables = read_tables(folder, config, backbone, len(task.levels))
        return cls(task, package_digest(folder), tables)


def package_digest(folder: Path) -> str:
    """Return the digest of a package's files. Raises PackageError if one is missing."""
    try:
        return set_digest({name: file_digest(folder / name) for name in FILES})
    except OSError as error:
        raise PackageError(f"{error.filename} cannot be read: {error.strerror}") from error
