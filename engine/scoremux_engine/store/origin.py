"""A store in a bucket that a folder follows: its manifest is polled, and a package is fetched when it is first read."""

import logging
import math
import os
import re
import shutil
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field

from scoremux_client.contract import DIGEST_PATTERN
from scoremux_engine.errors import PackageError, StoreError
from scoremux_engine.packages.package_files import is_whole
from scoremux_engine.store.manifest import (
    LEVELS_JSONL,
    MANIFEST_JSON,
    MAX_MANIFEST_BYTES,
    Manifest,
    StoreFile,
    parse_store_file,
)
from scoremux_files.atomic import NEW, replace_file, sync
from scoremux_files.digests import read_file
from scoremux_files.errors import first_line

ORIGIN_JSON = "origin.json"

_LOOK_EVERY_S = 5.0
_WAIT_S, _PATIENCE_S = 0.5, 10.0
"""After so long without any answer nothing waits for the bucket any more, until it answers again."""

_REFUSED_S = 60.0
"""How long a damaged package is not fetched again, unless the manifest changes."""

_FETCHES = 32
"""Packages that are fetched at once."""

_FILL = 0.9
"""How full the folder is after packages were removed, so that each removal makes room for many."""

log = logging.getLogger(__name__)


class OriginFile(StoreFile):
    """`origin.json` of a folder that follows a store.

    Attributes:
        url: The store, as fsspec names it.
        keep_bytes: Most bytes of packages to keep in the folder.
    """

    url: str
    keep_bytes: Annotated[int, Field(gt=0)]


class BucketOrigin:
    """The store in a bucket that `folder` follows. Thread-safe; several processes may use the folder.

    The folder has the bucket's manifest, its list of levels, and the packages that were read here. Those read least
    recently are removed where there is no room. Nothing is written to the bucket. Where the bucket cannot be reached,
    `problem` says why, and the folder serves what it has.

    Raises:
        StoreError: fsspec cannot open such a URL.
    """

    def __init__(self, folder: Path, followed: OriginFile) -> None:
        try:
            from fsspec.core import url_to_fs  # of the extra `bucket`

            self._bucket, self._root = url_to_fs(followed.url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            why = f"{folder} follows {followed.url}, which cannot be opened: {error}"
            raise StoreError(f'{why}; pip install "scoremux[bucket]", and s3fs, gcsfs or adlfs for its URL') from error
        self.url = followed.url
        self.problem = ""
        self._answers = True
        self._keep_bytes = followed.keep_bytes
        self._folder, self._packages = folder, folder / "packages"
        self._packages.mkdir(parents=True, exist_ok=True)
        self._lock, self._making_room = threading.Lock(), threading.Lock()
        self._pool = ThreadPoolExecutor(_FETCHES, "fetching")
        self._fetching: dict[str, Future[None]] = {}
        self._refused: dict[str, tuple[str, float]] = {}  # why, and until when it is not fetched again
        self._looking: threading.Thread | None = None
        self._looked_at = self._answered_at = -math.inf
        self._seen = ""  # what identifies the manifest that was read last
        self._known = self._listed()
        self._used_bytes = -1  # not counted yet

    @classmethod
    def of(cls, folder: Path) -> "BucketOrigin | None":
        """Return what a folder follows, None for a store of its own. Raises StoreError."""
        path = folder / ORIGIN_JSON
        if not path.exists():
            return None
        return cls(folder, parse_store_file(OriginFile, path.read_bytes(), path))

    def look(self) -> None:
        """Look for a changed manifest, in another thread and when it is time. Only the first look is waited for."""
        now = time.monotonic()
        with self._lock:
            first, is_looking = self._looking is None, self._looking and self._looking.is_alive()
            if is_looking or now - self._looked_at < _LOOK_EVERY_S:
                return
            self._looked_at = now
            self._looking = threading.Thread(target=self._look, name="following", daemon=True)
            self._looking.start()
        if first:
            self._looking.join(_PATIENCE_S)

    def knows(self, digest: str) -> bool:
        """Whether the store names this version: what a client asks for must not make the bucket busy."""
        return digest in self._known

    def begin(self, digest: str) -> "Future[None] | None":
        """Begin to fetch a package; return None where it is here already, or the bucket cannot be reached.

        Raises PackageError where it was refused less than a minute ago, before the manifest that is there now.
        """
        with self._lock:
            why, until = self._refused.get(digest, ("", 0.0))
            if time.monotonic() < until:
                raise PackageError(why)
            if digest not in self._fetching:
                if not self._answers or (self._packages / digest).is_dir():
                    return None
                future = self._fetching[digest] = self._pool.submit(self._fetch, digest)
                future.add_done_callback(lambda _: self._fetching.pop(digest, None))
                return future
            return self._fetching[digest]

    def fetch(self, digest: str) -> None:
        """Fetch a package unless it is here.

        Raises:
            PackageError: The bucket has no such package or a damaged one, or cannot be reached.
        """
        begun_at, future = time.monotonic(), self.begin(digest)
        while future and self._answers:
            if wait([future], _WAIT_S).done:
                future.result()
                break
            waited_s = time.monotonic() - max(begun_at, self._answered_at)
            if waited_s > _PATIENCE_S:
                self._note(f"no answer in {waited_s:.0f} s")
        try:
            os.utime(self._packages / digest)  # the time of its last use
        except FileNotFoundError as error:
            raise PackageError(f"{self._packages / digest} is not here, and {self.url}: {self.problem}") from error

    def _look(self) -> None:
        try:
            source = f"{self._root}/{MANIFEST_JSON}"
            seen = self._bucket.ukey(source)
            if seen != self._seen:
                manifest = self._bucket.cat_file(source, end=MAX_MANIFEST_BYTES + 1)
                parse_store_file(Manifest, manifest, Path(source))
                with suppress(FileNotFoundError):  # of a store that has no list
                    levels = self._bucket.cat_file(f"{self._root}/{LEVELS_JSONL}", end=MAX_MANIFEST_BYTES)
                    replace_file(self._folder / LEVELS_JSONL, [levels])
                replace_file(self._folder / MANIFEST_JSON, [manifest])
                self._seen, self._known = seen, self._listed()
                self._refused.clear()
            self._note("")
        except StoreError as error:  # the tasks of before stay live
            self._note(str(error), answers=True)
        except Exception as error:  # each kind of bucket has its own
            self._note(f"{type(error).__name__}: {first_line(error)}")

    def _listed(self) -> set[str]:
        digests = set[str]()
        for name in (MANIFEST_JSON, LEVELS_JSONL):
            with suppress(OSError):
                digests.update(re.findall(DIGEST_PATTERN, read_file(self._folder / name, MAX_MANIFEST_BYTES).decode()))
        return digests

    def _fetch(self, digest: str) -> None:
        source = f"{self._root}/packages/{digest}"
        aside = Path(tempfile.mkdtemp(prefix=NEW, dir=self._packages))
        try:
            sizes = {entry["name"]: int(entry["size"]) for entry in self._bucket.ls(source, detail=True)}
            size = sum(sizes.values())
            if size > self._keep_bytes:
                raise PackageError(f"{source} is larger than the {self._keep_bytes:,} bytes that are kept here")
            self._bucket.get([*sizes], [str(aside / Path(name).name) for name in sizes])
            if not is_whole(aside, digest):
                raise PackageError(f"{source} is damaged: its content has another digest")
            aside.chmod(0o755)
            for path in (*aside.iterdir(), aside):
                sync(path)
            aside.rename(self._packages / digest)
        except PackageError as error:
            self._refused[digest] = str(error), time.monotonic() + _REFUSED_S
            raise
        except Exception as error:
            if (self._packages / digest).is_dir():  # another process was faster
                return
            why = f"{type(error).__name__}: {first_line(error)}"
            if not isinstance(error, FileNotFoundError):
                self._note(why)
            raise PackageError(f"{source} cannot be read: {why}") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        self._answered_at = time.monotonic()
        with self._making_room:
            self._make_room(size)

    def _make_room(self, more_bytes: int) -> None:
        """Remove packages, those used least recently first, where there are too many bytes; also what a crash left."""
        self._used_bytes += more_bytes
        if more_bytes <= self._used_bytes <= self._keep_bytes:
            return
        sizes = {}
        for folder in self._packages.iterdir():
            with suppress(FileNotFoundError):  # removed by another process
                used_at = folder.stat().st_mtime
                sizes[folder] = used_at, sum(file.stat().st_size for file in folder.iterdir())
        self._used_bytes = sum(size for _, size in sizes.values())
        for folder, (_, size) in sorted(sizes.items(), key=lambda item: item[1]):
            if self._used_bytes <= _FILL * self._keep_bytes:
                break
            shutil.rmtree(folder, ignore_errors=True)
            self._used_bytes -= size

    def _note(self, problem: str, *, answers: bool = False) -> None:
        if problem and not self.problem:
            log.error("serving what is in %s already; %s: %s", self._folder, self.url, problem)
        self.problem, self._answers = problem, answers or not problem
        if self._answers:
            self._answered_at = time.monotonic()
