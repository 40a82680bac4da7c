"""What a process holds in memory."""

from __future__ import annotations

from pathlib import Path


def resident_bytes() -> int:
    """Return this process's resident set size."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmRSS")
