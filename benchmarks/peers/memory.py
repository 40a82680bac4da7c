"""What processes hold in memory."""

from __future__ import annotations

from pathlib import Path

_PROC = Path("/proc")


def resident_bytes(pid: int) -> int:
    """Return the resident set size of a process, and for its descendants the part that they share with nobody."""
    return _kib(pid, "Rss:") * 1024 + sum(
        (_kib(child, "Private_Clean:") + _kib(child, "Private_Dirty:")) * 1024 for child in descendants(pid)
    )


def descendants(pid: int) -> list[int]:
    """Return the ids of all processes that a process started, and that those started."""
    parents: dict[int, list[int]] = {}
    for stat in _PROC.glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, queue = [], [pid]
    while queue:
        children = parents.get(queue.pop(), [])
        found += children
        queue += children
    return found


def _kib(pid: int, what: str) -> int:
    lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))
