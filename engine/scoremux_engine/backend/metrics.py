"""The metrics of the scorer, their counting and their publishing. No label ever holds a student's text."""

import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from scoremux_client import contract
from scoremux_engine.bank.bank import BankStats
from scoremux_engine.scoring.observer import BatchTrace, ScoredBatch
from scoremux_engine.scoring.scheduler import QueueStats

PUBLISH_EVERY_S = 0.25
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Metric:
    """labels: their names, in the order of the values; buckets: a histogram's upper bounds."""

    name: str
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def kind(self) -> str:
        """How it moves, as Triton calls it: only up, up and down, or as a distribution over buckets."""
        if self.buckets:
            return "HISTOGRAM"
        return "COUNTER" if self.name.endswith("_total") else "GAUGE"


_REASONS = ("cancelled", "late", "full", "token_full", "stopped")
INTERACTIVE, BATCH = "interactive", "batch"

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)

ROWS = Metric("scoremux_rows_total", "Rows answered.", labels=("task", "status"))
ROUTES = Metric("scoremux_routes_total", "Rows by where they go: machine, or people and why.", labels=("task", "route"))
CONDITIONS = Metric("scoremux_conditions_total", "Rows with a condition code.", labels=("task", "condition"))
TOKENS = Metric("scoremux_tokens_total", "Tokens of scored rows.")
PADDED_TOKENS = Metric("scoremux_padded_tokens_total", "Tokens of scored rows, with the padding to their buckets.")
FAILED_BATCHES = Metric("scoremux_failed_batches_total", "Batches that ended in an error: no row was answered.")
BATCH_ROWS = Metric("scoremux_batch_rows", "Rows of a batch.", buckets=_ROWS)
MICRO_BATCH_ROWS = Metric("scoremux_micro_batch_rows", "Rows of a micro-batch.", buckets=_ROWS)
MICRO_BATCH_GROUPS = Metric("scoremux_micro_batch_groups", "Task versions in a micro-batch.", buckets=_ROWS)
STAGE_SECONDS = Metric(
    "scoremux_stage_seconds",
    "Seconds in a stage, of requests that go through it together.",
    labels=("stage",),
    buckets=_SECONDS,
)
INFO = Metric(
    "scoremux_info",
    "Build information; always 1.",
    labels=("version", "runner", "device", "precision", "backbone", "arithmetic"),
)
DEADLY_ROWS = Metric("scoremux_deadly_rows", "Rows answered SERVER_DIED, since they killed the scorer.")
AUDIT_UNWRITTEN_ROWS = Metric("scoremux_audit_unwritten_rows_total", "Rows the audit log could not take.")

WAITING_ROWS = Metric("scoremux_waiting_rows", "Rows that are not answered yet.", labels=("class",))
WAITING_SECONDS = Metric(
    "scoremux_waiting_seconds",
    "Seconds from a request's arrival to the first micro-batch with rows of it.",
    labels=("class",),
    buckets=(*_SECONDS, 30.0, 60.0, 300.0),
)
SHARE_TOKENS = Metric(
    "scoremux_share_tokens_total", "Padded tokens computed for requests of each access token.", labels=("token",)
)
MICRO_BATCH_FILL = Metric(
    "scoremux_micro_batch_fill",
    "Rows of a micro-batch, of the most that it may have.",
    buckets=(0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0),
)
DROPPED_ROWS = Metric(
    "scoremux_dropped_rows_total",
    "Rows that were not computed: cancelled, late, full, token_full, stopped.",
    labels=("reason",),
)

OF_BANK = {
    "tasks": Metric("scoremux_tasks", "Live tasks in the manifest."),
    "resident": Metric("scoremux_bank_versions", "Task versions in memory."),
    "used_bytes": Metric("scoremux_bank_bytes", "Memory that task versions take."),
    "loads": Metric("scoremux_bank_loads_total", "Packages read from the store."),
    "waits": Metric("scoremux_bank_waits_total", "Packages that a batch waited for."),
    "evictions": Metric("scoremux_bank_evictions_total", "Versions that left memory for others."),
    "failures": Metric("scoremux_bank_failures_total", "Packages that failed their checks at a load."),
}
"""Field of `BankStats` → its metric."""

ALL = (*(value for value in tuple(globals().values()) if isinstance(value, Metric)), *OF_BANK.values())

OTHER, UNKNOWN = "_other", "_unknown"
"""Labels for tasks and access tokens beyond the first, and for rows that named no task: no valid task ids."""

MOST_ACCESS_TOKENS = 100
"""How many access tokens of the front door have a label of their own."""


class FirstLabels:
    """The first `most` names get a label of their own: tasks that rows name, or access tokens that send rows."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._own: set[str] = set()

    def of(self, name: str | None) -> str:
        """Return a name's label; UNKNOWN for None."""
        if name is None:
            return UNKNOWN
        if name not in self._own and len(self._own) >= self._most:
            return OTHER
        self._own.add(name)
        return name


_METHODS = {"COUNTER": "increment", "GAUGE": "set", "HISTOGRAM": "observe"}
"""Kind of a metric → Triton's method that changes it."""

Series = tuple[Metric, tuple[str, ...]]
"""A metric and its labels' values."""

_BY_TASK = {ROWS: contract.STATUS.name, ROUTES: contract.ROUTE.name, CONDITIONS: contract.CONDITION.name}
"""Metric that counts rows by task and value → the answer's tensor that has the value; empty ones do not count."""


Changes = list[tuple[Series, float]]
"""Events since the last look: the growth of a counter, the value of a gauge, or one value of a histogram."""


class Recorder:
    """An `Observer` that counts. Its work per batch is a few dictionary entries; any thread may take the changes."""

    def __init__(self, labels: FirstLabels, access_tokens: FirstLabels | None = None) -> None:
        self._labels = labels
        self._access_tokens = access_tokens or FirstLabels(MOST_ACCESS_TOKENS)
        self._lock = threading.Lock()
        self._values = defaultdict[Series, float](int)
        self._taken: dict[Series, float] = {}
        self._observed: Changes = []

    def observe(self, batch: ScoredBatch) -> None:
        labels = [self._labels.of(task) for task in batch.plan.tasks]
        counts: Counter[Series] = Counter()
        for metric, column in _BY_TASK.items():
            values = [value.decode() for value in batch.columns[column][:, 0]]
            rows = zip(labels, values, strict=True)
            counts.update((metric, labelled) for labelled in rows if labelled[1])
        counts[TOKENS, ()] = int(batch.columns[contract.TOKENS.name].sum())
        with self._lock:
            for series, count in counts.items():
                self._values[series] += count
            for trace in batch.traces:
                self._observe(trace)

    def add(self, metric: Metric, count: int = 1) -> None:
        """Let a counter without labels grow."""
        with self._lock:
            self._values[metric, ()] += count

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Give a gauge its value, or a counter the total that somebody else has counted."""
        with self._lock:
            self._values[metric, labels] = value

    def set_bank(self, stats: BankStats) -> None:
        """Take over the figures of the bank."""
        for name, value in asdict(stats).items():
            self.set(OF_BANK[name], value)

    def set_queue(self, stats: QueueStats, rows: tuple[int, int]) -> None:
        """Take over the scheduler's figures of its queue, and the rows that `Room` counts: planned or not."""
        for name, waiting in zip((INTERACTIVE, BATCH), rows, strict=True):
            self.set(WAITING_ROWS, waiting, name)
        tokens: Counter[str] = Counter()
        for name, count in stats.tokens.items():
            tokens[self._access_tokens.of(name)] += count
        for label, total in tokens.items():
            self.set(SHARE_TOKENS, total, label)
        for reason in _REASONS:
            self.set(DROPPED_ROWS, stats.dropped.get(reason, 0), reason)

    def take(self) -> Changes:
        """Return the changes since the last call; a new series is there before it grows."""
        with self._lock:
            before, self._taken = self._taken, dict(self._values)
            changes, self._observed = self._observed, []
        for series, value in self._taken.items():
            if value != before.get(series):
                counted = before.get(series, 0) if series[0].kind == "COUNTER" else 0
                changes.append((series, value - counted))
        return changes

    def _observe(self, trace: BatchTrace) -> None:
        self._add_observation(BATCH_ROWS, trace.rows)
        for part in trace.parts:
            self._values[PADDED_TOKENS, ()] += part.rows * part.bucket
            self._add_observation(MICRO_BATCH_ROWS, part.rows)
            self._add_observation(MICRO_BATCH_GROUPS, part.groups)
            self._add_observation(MICRO_BATCH_FILL, part.fill)
        if trace.waited_s is not None:
            self._add_observation(WAITING_SECONDS, trace.waited_s, BATCH if trace.batch else INTERACTIVE)
        for stage, seconds in trace.seconds.items():
            self._add_observation(STAGE_SECONDS, seconds, stage)

    def _add_observation(self, metric: Metric, value: float, *labels: str) -> None:
        self._observed.append(((metric, labels), value))


class Families:
    """The metrics as Triton publishes them on its metrics port; `family` is its class of that name."""

    def __init__(self, family: Any) -> None:
        # A family lives as long as this process holds it.
        self._families = {m: family(name=m.name, description=m.text, kind=getattr(family, m.kind)) for m in ALL}
        self._shown: dict[Series, Any] = {}
        for metric in ALL:
            if not metric.labels:
                self._of((metric, ()))  # 0 is a value too

    def publish(self, changes: Changes) -> None:
        for series, value in changes:
            getattr(self._of(series), _METHODS[series[0].kind])(value)

    def _of(self, series: Series) -> Any:
        if series not in self._shown:
            metric, values = series
            labels = dict(zip(metric.labels, values, strict=True))
            buckets = {"buckets": list(metric.buckets)} if metric.buckets else {}
            self._shown[series] = self._families[metric].Metric(labels=labels, **buckets)
        return self._shown[series]


class Publisher:
    """Passes the changes of `take` to `publish`, until `close`."""

    def __init__(self, take: Callable[[], Changes], publish: Callable[[Changes], None]) -> None:
        self._take, self._publish = take, publish
        self._closed = threading.Event()
        self._complained = False
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; changes that were not taken yet are lost."""
        self._closed.set()
        self._thread.join(timeout=2.0)

    def _run(self) -> None:
        while not self._closed.wait(PUBLISH_EVERY_S):
            try:
                self._publish(self._take())
            except Exception as error:
                # Scoring goes on without metrics; what their absence means is for an alert to say.
                if not self._complained:
                    log.error("metrics cannot be published: %s", type(error).__name__)
                self._complained = True
