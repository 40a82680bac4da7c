"""What the scorer tells Prometheus: names, kinds, texts, labels. No label ever holds what a student wrote."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from scoremux_engine.bank.bank import BankStats


class Kind(Enum):
    """How a metric moves: only up, up and down, or as a distribution over buckets."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Metric:
    """labels: their names, in the order of the values; buckets: a histogram's upper bounds."""

    name: str
    text: str
    kind: Kind = Kind.COUNTER
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)

ROWS = Metric("scoremux_rows_total", "Rows answered.", labels=("task", "status"))
ROUTES = Metric("scoremux_routes_total", "Rows by where they go: machine, or people and why.", labels=("task", "route"))
CONDITIONS = Metric("scoremux_conditions_total", "Rows with a condition code.", labels=("task", "condition"))
TOKENS = Metric("scoremux_tokens_total", "Tokens of scored rows.")
PADDED_TOKENS = Metric("scoremux_padded_tokens_total", "Tokens of scored rows, with the padding to their buckets.")
TRUNCATED_ROWS = Metric("scoremux_truncated_rows_total", "Scored rows that were cut at the backbone's limit.")
FAILED_BATCHES = Metric("scoremux_failed_batches_total", "Batches that ended in an error: no row was answered.")
BATCH_ROWS = Metric("scoremux_batch_rows", "Rows of a batch.", Kind.HISTOGRAM, buckets=_ROWS)
MICRO_BATCH_ROWS = Metric("scoremux_micro_batch_rows", "Rows of a micro-batch.", Kind.HISTOGRAM, buckets=_ROWS)
MICRO_BATCH_GROUPS = Metric(
    "scoremux_micro_batch_groups", "Task versions in a micro-batch.", Kind.HISTOGRAM, buckets=_ROWS
)
STAGE_SECONDS = Metric(
    "scoremux_stage_seconds", "Seconds of a batch in a stage.", Kind.HISTOGRAM, labels=("stage",), buckets=_SECONDS
)
INFO = Metric(
    "scoremux_info",
    "1; the labels say what scores.",
    Kind.GAUGE,
    labels=("version", "runner", "device", "precision", "backbone"),
)
AUDIT_ROWS = Metric("scoremux_audit_rows_total", "Rows written to the audit log.")
AUDIT_UNWRITTEN_ROWS = Metric("scoremux_audit_unwritten_rows_total", "Rows the audit log could not take.")

_BANK = {
    "tasks": Metric("scoremux_tasks", "Live tasks in the manifest.", Kind.GAUGE),
    "resident": Metric("scoremux_bank_versions", "Task versions in memory.", Kind.GAUGE),
    "used_bytes": Metric("scoremux_bank_bytes", "Memory that task versions take.", Kind.GAUGE),
    "loads": Metric("scoremux_bank_loads_total", "Packages read from the store."),
    "waits": Metric("scoremux_bank_waits_total", "Packages that a batch waited for."),
    "evictions": Metric("scoremux_bank_evictions_total", "Versions that left memory for others."),
    "failures": Metric("scoremux_bank_failures_total", "Packages that failed their checks at a load."),
}
ALL = (
    *(
        ROWS,
        ROUTES,
        CONDITIONS,
        TOKENS,
        PADDED_TOKENS,
        TRUNCATED_ROWS,
        FAILED_BATCHES,
        BATCH_ROWS,
        MICRO_BATCH_ROWS,
        MICRO_BATCH_GROUPS,
    ),
    *(STAGE_SECONDS, INFO, AUDIT_ROWS, AUDIT_UNWRITTEN_ROWS),
    *_BANK.values(),
)


def of_bank(stats: BankStats) -> Iterator[tuple[Metric, float]]:
    """Yield each metric of the bank with its value."""
    for field, metric in _BANK.items():
        yield metric, float(getattr(stats, field))
