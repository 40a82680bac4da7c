"""Which rows are being computed, kept where a dead process leaves it: how a row that kills the scorer is found.

Before a micro-batch runs, its rows' digests are written into a small memory-mapped file, and cleared after. A process
that starts and finds digests there runs those rows alone, one after the other. If it dies again, the file names the one
row. After a crash (a signal such as SIGSEGV, or the kernel's out-of-memory killer) that row counts as deadly. A death
without a sign of a crash, such as an operator's SIGKILL, may have nothing to do with the row: it takes one more.

A deadly row is not run for an hour, and then once more, alone: chance may have condemned it. One more death while it
runs alone makes it deadly again.
"""

import faulthandler
import hashlib
import json
import mmap
import queue
import struct
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from scoremux_client.contract import MAX_BATCH_ROWS

_DIGEST_BYTES = 16
_COUNT = struct.Struct("<q")
_REGION_BYTES = _COUNT.size + MAX_BATCH_ROWS * _DIGEST_BYTES
_DEATHS_WITHOUT_A_CRASH = 2
_RETRY_S = 3600.0
_MEMORY_EVENTS = Path("/sys/fs/cgroup/memory.events")


def row_digest(version: str, tokens: Sequence[int]) -> str:
    """Return the name of a row: 32 hex digits of a hash of its version's digest and its tokens."""
    state = hashlib.blake2b(version.encode(), digest_size=_DIGEST_BYTES)
    state.update(np.array(tokens, dtype=np.int64).tobytes())
    return state.hexdigest()


class InFlight:
    """The rows that are being computed, in files of a folder that lasts as long as the run of a server.

    Attributes:
        unfinished: Digests of rows that were in flight when a process died and were not computed since, with how often
            one died while they ran alone.
    """

    def __init__(
        self, folder: Path, overlap: int, memory_events: Path = _MEMORY_EVENTS, clock: Callable[[], float] = time.time
    ) -> None:
        """Read the files of the process before this one, and start with empty regions.

        Args:
            memory_events: The control group's file of that name, which counts out-of-memory kills.
            clock: Returns the present time in seconds since the epoch.
        """
        self._lock = threading.Lock()
        self._file = folder / "deaths.json"
        self.unfinished: dict[str, int] = {}
        self._deadly: dict[str, float] = {}  # digest → when it became deadly
        self._clock = clock
        self._oom_kills = 0
        self._read_state()
        oom_kills = _count_oom_kills(memory_events)
        crash = folder / "crash.txt"
        crashed = (crash.exists() and crash.stat().st_size > 0) or oom_kills > self._oom_kills
        with (folder / "rows-in-flight").open("a+b") as file:
            file.truncate(max(file.tell(), overlap * _REGION_BYTES))
            self._map = mmap.mmap(file.fileno(), 0)
        regions = range(0, len(self._map), _REGION_BYTES)
        self._judge([digest for region in regions for digest in self._left_in(region)], crashed)
        self._oom_kills = oom_kills
        self._write_state()
        self._map[:] = bytes(len(self._map))
        self._free: queue.LifoQueue[int] = queue.LifoQueue()
        for region in regions:
            self._free.put(region)
        self._crash = crash.open("w", encoding="utf-8")  # faulthandler writes to it for as long as it is open
        faulthandler.enable(self._crash)

    @property
    def deadly(self) -> Collection[str]:
        """Digests of rows that killed the process within the last hour; those before it are to run once more, alone."""
        now = self._clock() if self._deadly else 0.0
        # A time that lies ahead is of before the clock was set back.
        due = [digest for digest, since in self._deadly.items() if not 0 <= now - since < _RETRY_S]
        if due:
            with self._lock:
                self._deadly = {digest: since for digest, since in self._deadly.items() if digest not in due}
                self.unfinished = {**self.unfinished, **dict.fromkeys(due, _DEATHS_WITHOUT_A_CRASH - 1)}
                self._write_state()
        return self._deadly.keys()

    @contextmanager
    def running(self, digests: Sequence[str]) -> Iterator[None]:
        """Note that the rows of one micro-batch are computed within."""
        region = self._free.get()
        noted = digests[:MAX_BATCH_ROWS]
        start = region + _COUNT.size
        self._map[start : start + len(noted) * _DIGEST_BYTES] = bytes.fromhex("".join(noted))
        _COUNT.pack_into(self._map, region, len(noted))
        try:
            yield
        finally:
            _COUNT.pack_into(self._map, region, 0)
            self._free.put(region)
        if self.unfinished:
            self._finish(digests)

    def _finish(self, digests: Sequence[str]) -> None:
        with self._lock:
            if self.unfinished.keys() & set(digests):
                self.unfinished = {d: deaths for d, deaths in self.unfinished.items() if d not in digests}
                self._write_state()

    def _judge(self, left: list[str], crashed: bool) -> None:
        """Decide what the last death says of the rows that were in flight."""
        if len(left) == 1 and left[0] in self.unfinished:
            self.unfinished[left[0]] += 1
            if crashed or self.unfinished[left[0]] >= _DEATHS_WITHOUT_A_CRASH:
                del self.unfinished[left[0]]
                self._deadly[left[0]] = self._clock()
        else:
            for digest in left:
                self.unfinished.setdefault(digest, 0)

    def _left_in(self, region: int) -> Iterator[str]:
        count = _COUNT.unpack_from(self._map, region)[0]
        for number in range(min(max(count, 0), MAX_BATCH_ROWS)):
            start = region + _COUNT.size + number * _DIGEST_BYTES
            yield self._map[start : start + _DIGEST_BYTES].hex()

    def _read_state(self) -> None:
        # A file that is missing or damaged says nothing; scoring goes on, and the next death begins a new one.
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            state = json.loads(self._file.read_text(encoding="utf-8"))
            unfinished, deadly = state["unfinished"], state["deadly"]
            self.unfinished = {str(digest): int(deaths) for digest, deaths in unfinished.items()}
            self._deadly = {str(digest): float(since) for digest, since in deadly.items()}
            self._oom_kills = int(state["oom_kills"])

    def _write_state(self) -> None:
        state = {"unfinished": self.unfinished, "deadly": self._deadly, "oom_kills": self._oom_kills}
        self._file.write_text(json.dumps(state), encoding="utf-8")


def _count_oom_kills(memory_events: Path) -> int:
    try:
        words = memory_events.read_text(encoding="ascii").split()
        return int(words[words.index("oom_kill") + 1])
    except (OSError, ValueError, IndexError):
        return 0
