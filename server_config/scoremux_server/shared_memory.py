"""The Python backend's shared-memory regions: named after their server, so that its own can be told from others'."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path("/dev/shm")


def region_prefix(run: str) -> str:
    """Return the prefix for the regions of one run of the server."""
    return f"scoremux_{run}_"


def remove_regions(prefix: str) -> list[str]:
    """Remove what a server that is gone left behind; return the names."""
    left = sorted(_FOLDER.glob(f"{prefix}*"))
    for region in left:
        region.unlink(missing_ok=True)
    return [region.name for region in left]
