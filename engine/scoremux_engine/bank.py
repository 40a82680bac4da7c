"""The bank: the task packages in memory, kept in step with the store's manifest."""

from __future__ import annotations

import logging
import math
import re
import time
from collections import OrderedDict

from scoremux_client.contract import DIGEST_PATTERN
from scoremux_engine.backbone import Backbone
from scoremux_engine.errors import EngineError, PackageError, StoreError
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.store.store import Store

_PINNED_MOST = 64
_RETRY_S = 1.0

log = logging.getLogger(__name__)


class Bank:
    """Live packages by task id, pinned ones by digest.

    `refresh` looks at the manifest (one stat) and takes over what changed; a package that fails its checks is not
    served, and the version before it stays.
    """

    def __init__(self, store: Store, backbone: Backbone) -> None:
        self._store = store
        self._backbone = backbone
        self._live: dict[str, TaskPackage] = {}
        self._pinned: OrderedDict[str, TaskPackage] = OrderedDict()
        self._stamp: tuple[int, int, int] | None = None
        self._retry_at = math.inf

    @property
    def levels_max(self) -> int:
        """L_max over the live tasks; 1 while there is none."""
        return max((package.levels for package in self._live.values()), default=1)

    @property
    def tasks(self) -> list[str]:
        return sorted(self._live)

    @property
    def packages(self) -> list[TaskPackage]:
        """The live packages, by task id."""
        return [self._live[task] for task in self.tasks]

    def refresh(self) -> None:
        """Take over a changed manifest, and try again, once a second, what failed before.

        Raises StoreError only where the store belongs to another backbone.
        """
        try:
            stamp = self._store.stamp()
            if stamp is None or (stamp == self._stamp and time.monotonic() < self._retry_at):
                return
            manifest = self._store.manifest()
        except StoreError as error:
            log.error("keeping the tasks already loaded: %s", error)
            return
        if manifest.backbone != self._backbone.spec.digest:
            raise StoreError(
                f"{self._store.folder} belongs to backbone {manifest.backbone[:12]}, "
                f"but {self._backbone.spec.digest[:12]} is loaded"
            )
        self._retry_at = math.inf
        live = {task: self._load_live(task, digest) for task, digest in manifest.tasks.items()}
        self._live = {task: package for task, package in live.items() if package is not None}
        self._stamp = stamp

    def find(self, task: str, digest: str | None = None) -> TaskPackage | None:
        """Return the live package of a task, or the version with this digest; None if there is none."""
        live = self._live.get(task)
        if digest is None or (live is not None and live.digest == digest):
            return live
        return self._find_pinned(task, digest)

    def _load_live(self, task: str, digest: str) -> TaskPackage | None:
        before = self._live.get(task)
        if before is not None and before.digest == digest:
            return before
        try:
            package = self._store.read_package(digest, self._backbone)
            if package.task.id != task:
                raise PackageError(f"it says it is task {package.task.id}")
        except EngineError as error:
            log.error("task %s: version %s is not served: %s", task, digest[:12], error)
            self._retry_at = time.monotonic() + _RETRY_S
            return before
        return package

    def _find_pinned(self, task_id: str, digest: str) -> TaskPackage | None:
        if not re.fullmatch(DIGEST_PATTERN, digest):
            return None  # a digest becomes a path
        package = self._pinned.pop(digest, None)
        if package is None and self._store.package_folder(digest).is_dir():
            try:
                package = self._store.read_package(digest, self._backbone)
            except PackageError as error:
                log.error("task %s: pinned version %s is not served: %s", task_id, digest[:12], error)
        if package is None:
            return None
        self._pinned[digest] = package
        if len(self._pinned) > _PINNED_MOST:
            self._pinned.popitem(last=False)
        return package if package.task.id == task_id else None
