"""What a process holds in memory."""

from __future__ import annotations

from pathlib import Path


def resident_bytes(pid: int | None = None) -> int:
    """Return a process's resident set size, this one's by default. Raises ProcessLookupError where it has ended."""
    for line in Path(f"/proc/{pid or 'self'}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {pid} holds nothing in memory any more")
