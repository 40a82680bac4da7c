"""Which version of each task is live: the store's manifest, followed while batches are scored."""

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import cast

from scoremux_client.contract import TOTAL
from scoremux_engine.errors import PackageError, StoreError
from scoremux_engine.packages.task import Scale
from scoremux_engine.store.manifest import Manifest
from scoremux_engine.store.store import Store
from scoremux_files.digests import Stamp

INLINE_BYTES = 64 << 10
"""Largest manifest that a batch reads itself: some 700 tasks, one millisecond."""

_RETRY_S = 1.0
_MANY_NEW = 100
"""With more new versions, their levels are read from the store's list and not from each package."""
_MOST_FALLBACKS = 8

Described = dict[str, tuple[str, tuple[float, ...] | None]]

log = logging.getLogger(__name__)


class LiveVersions:
    """The live version of each task, and the earlier ones to serve until the live one is loaded. Thread-safe.

    A manifest that cannot be used, or is of another backbone than this digest, is logged once and named in `problem`;
    the tasks of before stay live.
    """

    def __init__(self, store: Store, backbone: str) -> None:
        self._store = store
        self._backbone = backbone
        self._updating = threading.Lock()
        self._lock = threading.Lock()
        self._stamp: Stamp | None = None
        self._refused: tuple[Stamp | None, float] = None, 0.0  # what cannot be used, and when to try it again
        self._fallbacks: dict[str, tuple[str, ...]] = {}  # newest first; the last, the oldest, was served before
        self._scales: dict[str, Scale] = {}  # by digest of the version
        self._described: tuple[dict[str, str], dict[str, Scale], Described] = {}, {}, {}
        self._undescribed = False
        self._describing = threading.Lock()
        self.tasks: dict[str, str] = {}
        """Task → digest of its live version. Replaced, never changed."""
        self.outdated = False
        """Whether the manifest has changed since it was read."""
        self.levels_max = 1
        self.problem = ""

    def check_manifest(self) -> bool:
        """Notice a changed manifest: read a small one, and set `outdated` for a large one. Return whether it changed.

        A manifest that cannot be looked at counts as changed; `update` says why. Raises StoreError where no manifest
        could ever be read.
        """
        if self._stamp is None:
            return self.update()
        with suppress(StoreError):  # `update` reports it
            stamp = self._store.stamp()
            if stamp is None or self._is_known(stamp):
                return False
            if not _is_large(stamp):
                return self.update()
        self.outdated = True
        return True

    def update(self) -> bool:
        """Read the manifest if it changed, whatever its size. Return whether it did. Raises as `check_manifest`."""
        with self._updating:
            self.outdated = False
            stamp = None
            try:
                stamp = self._store.stamp()
                if self._stamp is not None and (stamp is None or self._is_known(stamp)):
                    self.problem = "" if stamp == self._stamp else self.problem
                    return False
                manifest = self._store.manifest()
                if manifest.backbone != self._backbone:
                    raise StoreError(
                        f"{self._store.folder} belongs to backbone {manifest.backbone[:12]}, "
                        f"but {self._backbone[:12]} is loaded"
                    )
            except StoreError as error:
                if self._stamp is None:
                    raise
                self._refuse(stamp, str(error))
                return False
            self._replace(manifest, stamp)
            return True

    def describe(self) -> bool:
        """Read the levels of new live versions, for `levels_max`; log where a package is of another task.

        Waits for another thread that does so. Returns False where it stopped because the manifest changed meanwhile.
        """
        with self._describing:
            if not self._undescribed:
                return True
            self._undescribed = False
            # One change in a store of 100,000 tasks costs a look at each of them, so that look is a short one.
            live = self.tasks
            scales = {digest: self._scales[digest] for digest in live.values() if digest in self._scales}
            new = [(name, digest) for name, digest in live.items() if digest not in scales]
            listed = self._store.scales() if len(new) > _MANY_NEW or self._store.origin else {}
            known = {scale: scale for scale in scales.values()}  # tasks of one scale share it
            for name, digest in new:
                if self.outdated or self.tasks is not live:  # what is new comes first
                    self._undescribed, self._scales = True, scales
                    return False
                if digest in listed:
                    scales[digest] = known.setdefault(listed[digest], listed[digest])
                    continue
                with suppress(PackageError):
                    task = self._store.files(digest).task
                    scales[digest] = known.setdefault(task.scale, task.scale)
                    if task.id != name:
                        problem = f"version {digest[:12]} is not served: it says it is task {task.id}"
                        log.error("task %s: %s", name, problem)
            self._scales = scales
            self.levels_max = max(map(_most_levels, known), default=1)
            return True

    def described(self) -> Described:
        """Return each live task's version and the points of its levels; None where these are not read.

        An item with traits is there as its traits, such as ``essay-1.grammar``. The same object while nothing changed.
        """
        tasks, scales = self.tasks, self._scales
        known_tasks, known_scales, described = self._described
        if known_tasks is not tasks or known_scales is not scales:
            described = {}
            for task, digest in tasks.items():
                for name, levels in _by_id(task, scales.get(digest)).items():
                    described.setdefault(name, (digest, levels))
            self._described = tasks, scales, described
        return described

    def earlier(self, task: str) -> tuple[str, ...]:
        """Return the versions that take the live one's place while it is not loaded, newest first."""
        return self._fallbacks.get(task, ())

    @property
    def large(self) -> bool:
        """Whether the manifest is one that no batch waits for."""
        return self._stamp is not None and _is_large(self._stamp)

    @property
    def awaiting_load(self) -> list[str]:
        """The tasks with an earlier version in their live one's place."""
        with self._lock:
            return list(self._fallbacks)

    def note_loaded(self, task: str, digest: str) -> None:
        """Forget the earlier versions of a task if `digest` is its live one."""
        with self._lock:
            if self.tasks.get(task) == digest:
                self._fallbacks.pop(task, None)

    def _is_known(self, stamp: Stamp) -> bool:
        refused, retry_at = self._refused
        return stamp == self._stamp or (stamp == refused and time.monotonic() < retry_at)

    def _refuse(self, stamp: Stamp | None, problem: str) -> None:
        self._refused = stamp, time.monotonic() + _RETRY_S
        if problem != self.problem:
            log.error("keeping the tasks already loaded: %s", problem)
        self.problem = problem

    def _replace(self, manifest: Manifest, stamp: Stamp | None) -> None:
        tasks = manifest.tasks
        changed = [task for task, digest in self.tasks.items() if tasks.get(task, digest) != digest]
        with self._lock:
            fallbacks = {task: digests for task, digests in self._fallbacks.items() if task in tasks}
            for task in changed:
                earlier = dict.fromkeys([self.tasks[task], *fallbacks.get(task, ())])
                digests = [digest for digest in earlier if digest != tasks[task]]
                del digests[_MOST_FALLBACKS - 1 : -1]
                fallbacks[task] = tuple(digests)
            self.tasks, self._fallbacks, self._stamp = tasks, fallbacks, stamp
        self.problem = ""
        self._undescribed = True


def _by_id(task: str, scale: Scale | None) -> Mapping[str, tuple[float, ...] | None]:
    """Return the points of levels by the id that rows name; None where they are not read."""
    traits = {f"{task}.{part[0]}": part[1] for part in scale or () if isinstance(part, tuple)}
    return traits or {task: cast("tuple[float, ...] | None", scale)}


def _most_levels(scale: Scale) -> int:
    """Return the most levels that have a probability: a total has none."""
    return max(len(levels or ()) for name, levels in _by_id("", scale).items() if name != f".{TOTAL}")


def _is_large(stamp: Stamp) -> bool:
    return stamp.size > INLINE_BYTES
