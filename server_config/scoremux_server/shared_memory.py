"""The Python backend's shared-memory regions: whose they are, and which of them nobody uses any more."""

from __future__ import annotations

import os
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
    regions = [path for path in FOLDER.glob(f"{TRITONS_OWN}*") if _is_old_and_ours(path, young_s)]
    used = _in_use() if regions else set()
    dead = sorted(region for region in regions if str(region) not in used)
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


def _in_use() -> set[str]:
    """Return the shared-memory files that some process has mapped or open, as far as this user may see."""
    prefix, used = f"{FOLDER}/", set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            for line in (process / "maps").read_text(encoding="utf-8", errors="replace").splitlines():
                if prefix in line:
                    used.add(line[line.index(prefix) :])
            used.update(str(link.readlink()) for link in (process / "fd").iterdir())
        except OSError:
            continue  # ended, or another user's: that one's regions are not ours to remove
    return used
