"""The files of one run of a server: a temporary folder and regions of shared memory."""

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
from pathlib import Path

import psutil

from scoremux_files.errors import writing
from scoremux_server.errors import SetupError

SHARED_MEMORY = Path("/dev/shm")
SHARED_MEMORY_LEAST_BYTES = 16 << 20
"""Free shared memory that a server needs at its start: its regions, and room for large requests."""

MEMORY_LEAST_BYTES = 300 << 20
"""Memory that a server needs beside its graph, measured with 27 small adapters: with less the kernel ends the stub."""
_CGROUP = Path("/sys/fs/cgroup")


class RunFiles:
    """The private folder of one start of Triton, and the regions that bear its name.

    The folder is kept when Triton restarts (the scorer's `run_folder`).
    """

    def __init__(self) -> None:
        name = secrets.token_hex(8)
        self.shm_prefix = f"scoremux_{name}_"
        with writing(Path("a temporary folder"), SetupError):
            self.path = Path(tempfile.gettempdir()) / f"scoremux-{name}"

    def make(self) -> None:
        """Make the folder if it is missing. Raises SetupError."""
        with writing(self.path, SetupError):
            self.path.mkdir(mode=0o700, exist_ok=True)
            if self.path.lstat().st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "it belongs to another user")

    def close_regions(self) -> None:
        """Make the shared memory of this run's processes readable by this user alone; Triton ignores the umask."""
        for region in SHARED_MEMORY.glob(f"{self.shm_prefix}*"):
            with contextlib.suppress(FileNotFoundError):
                region.chmod(0o600)

    def remove_regions(self) -> None:
        """Remove the shared memory that this run's processes left; they must have ended."""
        for region in SHARED_MEMORY.glob(f"{self.shm_prefix}*"):
            region.unlink(missing_ok=True)

    def remove(self) -> None:
        self.remove_regions()
        shutil.rmtree(self.path, ignore_errors=True)


def shared_memory_free_bytes() -> int:
    """Return the bytes that are free in shared memory; Triton passes all tensors through it."""
    try:
        return shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return 0


def check_shared_memory(free_bytes: int) -> None:
    """Raise SetupError where too little shared memory is free for a start."""
    if free_bytes < SHARED_MEMORY_LEAST_BYTES:
        raise SetupError(
            f"{SHARED_MEMORY} has {free_bytes >> 20} MiB free, and Triton needs {SHARED_MEMORY_LEAST_BYTES >> 20} at "
            "least: remove what fills it, or give the container more (docker run --shm-size=1g)"
        )


def memory_free_bytes() -> int:
    """Return the bytes that this machine has available, or that this container may have if that is less."""
    limits = [int(psutil.virtual_memory().available)]
    with contextlib.suppress(OSError):
        own = Path("/proc/self/cgroup").read_text(encoding="utf-8").strip().rpartition(":")[2]
        # In a container, the folder of its own limit is the root.
        for folder in (_CGROUP / own.lstrip("/"), _CGROUP):
            with contextlib.suppress(OSError, ValueError):
                limits.append(int((folder / "memory.max").read_text()))
    return min(limits)


def check_memory(free_bytes: int, graph: Path) -> None:
    """Raise SetupError where a server of this graph does not fit into memory."""
    needed = MEMORY_LEAST_BYTES + (graph.stat().st_size if graph.is_file() else 0)
    if free_bytes < needed:
        raise SetupError(
            f"{free_bytes >> 20} MiB of memory are free, and a server of {graph} needs {needed >> 20} at least: end "
            "other programs, or give the container more (docker run --memory=2g)"
        )
