"""What the scorer tells Prometheus: names, kinds and texts. No label ever holds what a student wrote."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from scoremux_engine.bank.bank import BankStats


@dataclass(frozen=True)
class Metric:
    """counts: whether it only grows (a counter) or goes up and down (a gauge)."""

    name: str
    text: str
    counts: bool


_BANK = {
    "tasks": Metric("scoremux_tasks", "Live tasks in the manifest.", counts=False),
    "resident": Metric("scoremux_bank_versions", "Task versions in memory.", counts=False),
    "used_bytes": Metric("scoremux_bank_bytes", "Memory that task versions take.", counts=False),
    "loads": Metric("scoremux_bank_loads_total", "Packages read from the store.", counts=True),
    "waits": Metric("scoremux_bank_waits_total", "Packages that a batch waited for.", counts=True),
    "evictions": Metric("scoremux_bank_evictions_total", "Versions that left memory for others.", counts=True),
    "failures": Metric("scoremux_bank_failures_total", "Packages that failed their checks at a load.", counts=True),
}
ALL = tuple(_BANK.values())


def of_bank(stats: BankStats) -> Iterator[tuple[Metric, float]]:
    """Yield each metric of the bank with its value."""
    for field, metric in _BANK.items():
        yield metric, float(getattr(stats, field))
