"""The Python backend's shared-memory regions: whose they are, and which of them nobody uses any more."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path

FOLDER = Path("/dev/shm")
TRITONS_OWN = "triton_python_backend_shm_region_"
"""Prefix of the regions of a Triton that was started without one of its own."""

_YOUNG_S = 60.0


def region_prefix(run: str) -> str:
    """Return the prefix for the regions of one run of the server."""
    return f"scoremux_{run}_"


def remove_regions(prefix: str) -> list[str]:
    """Remove what a server that is gone left behind; return the names."""
    left = sorted(FOLDER.glob(f"{prefix}*"))
    for region in left:
        region.unlink(missing_ok=True)
    return [region.name for region in left]


def remove_orphans(young_s: float = _YOUNG_S) -> list[str]:
    """Remove regions of Tritons that nobody watched and that are dead; return the names.

    Dead: this user's, no process has it mapped or open, and untouched for `young_s`, since a starting Triton's stub
    opens its region by name.
    """
    regions = FOLDER.glob(f"{TRITONS_OWN}*")
    dead = sorted(path for path in regions if _is_old_and_ours(path, young_s) and _is_unused(path))
    for region in dead:
        region.unlink(missing_ok=True)
    return [region.name for region in dead]


def _is_old_and_ours(path: Path, young_s: float) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    touched = max(status.st_mtime, status.st_ctime)
    return status.st_uid == os.geteuid() and time.time() - touched >= young_s


def _is_unused(path: Path) -> bool:
    """Whether no process at all has the file open or mapped.

    The kernel grants a write lease on just such a file (fcntl(2)). It knows of processes that /proc does not show here:
    another container may share this folder.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        # Whoever opens it in this moment waits until it is closed here, and would have the kernel kill with SIGIO.
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        return False
    finally:
        os.close(file)
    return True
