"""Labelled rows → the rows of each live task that its calibration may rest on."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from scoremux_client.errors import InputError
from scoremux_decide.conditions.finder import Finder
from scoremux_decide.decision import Decision, Look
from scoremux_decide.policy import ScoringPolicy
from scoremux_engine.packages.package import adapter_digest
from scoremux_engine.packages.package_files import DECISION_JSON, TRAINED_JSON, PackageFiles
from scoremux_engine.packages.task import Task
from scoremux_engine.store.history import HistoryLine
from scoremux_engine.store.store import Store
from scoremux_evidence.promise.labelled_scores import LabelledScores
from scoremux_evidence.rows.label_table import LabelTable
from scoremux_evidence.rows.labelled_row import LabelledRow, Rows
from scoremux_evidence.rows.trained_rows import SAME_TEXT, TRAINED_ON, TrainedRows
from scoremux_evidence.rows.weights import ALL, LACKS_SAMPLE, ROUTE, routed_beside, routed_only
from scoremux_files.errors import first_of


class CalibrationReason(Enum):
    """Why a task gets no calibration, or one with a reservation. The value follows "N tasks" in a sentence."""

    UNVERIFIED = "are NOT VERIFIED: their predictions may not come from the live adapters, and then all here is wrong"
    NOT_OF_LIVE_ADAPTERS = (
        "keep the calibration that they have, if any. Their predictions are not known to come from the live adapters: "
        "publish the adapters of the same run of `scoremux train`, or use the predictions all the same with "
        "--unverified"
    )
    LACKS_SAMPLE = f"keep the calibration that they have, if any. Their {LACKS_SAMPLE}"
    TRAINED_ON = (
        "keep the calibration that they have, if any. All of their labelled rows were trained on by the live adapters: "
        "give the out-of-fold predictions of `scoremux train` (--predictions), or rows that were held out"
    )
    NO_ROW_LEFT = (
        "have no row that can be used; people get all of their responses, or the machine where the policy has no target"
    )
    NO_ROWS = "are live and NOT calibrated, as they have no labelled rows; people get all of their responses"
    NO_CONFIDENCE = "have no confidence; a target sends all their responses to people"
    UNTRAINED = "were trained on no labelled row; people get all of their responses"


_LEFT_OUT = (CalibrationReason.LACKS_SAMPLE, CalibrationReason.NOT_OF_LIVE_ADAPTERS, CalibrationReason.TRAINED_ON)


@dataclass(frozen=True)
class TaskRows:
    """The rows that the calibration of one live task rests on.

    Attributes:
        rows: All but those of texts with a condition.
        looks: Earlier tests of its promises.
        reason: Why it gets no calibration, or one with a reservation.
        scores: The rows that have probabilities, None if none has.
        count: How many these are; without probabilities, how many rows the machine scored.
        origins: How many of these come from which file, by file and by how they were chosen.
        digest: Of the set of these rows.
    """

    task: Task
    version: str
    files: PackageFiles
    before: Decision | None
    rows: Rows
    looks: tuple[Look, ...] = ()
    reason: CalibrationReason | None = None
    scores: LabelledScores | None = None
    count: int = 0
    origins: Mapping[str, int] = field(default_factory=dict)
    digest: str = ""


@dataclass(frozen=True)
class Eligible:
    """The rows that calibrations may rest on.

    Attributes:
        tasks: The tasks that have labelled rows, in order, without those that keep the calibration that they have.
        reasons: Why tasks get no calibration, or one with a reservation; live tasks without rows included.
        left_out: Rows that no decision rests on, by reason.
        relabelled: Rows whose labels in the predictions were others than in the files.
        arithmetic: That of probabilities and vectors, None if only training computed them.
    """

    policy: ScoringPolicy
    tasks: dict[str, TaskRows]
    reasons: dict[str, CalibrationReason]
    left_out: Counter[str]
    relabelled: int
    arithmetic: str | None = None


def eligible_rows(
    store: Store,
    policy: ScoringPolicy,
    labelled: LabelTable,
    *,
    unverified: bool = False,
) -> Eligible:
    """Return the rows that calibrations may rest on. Rows with a condition are left out: no machine keeps them.

    Args:
        labelled: No adapter was fitted to the rows without a prediction.
        unverified: Whether predictions may come from another adapter than the live one, or not say from which.

    Raises:
        InputError: All rows are of tasks that were never live; a row has a level that its task does not have; or of no
            task have rows a sample of all responses, or predictions that are known to come from its live adapter.
    """
    live = store.manifest().tasks
    left_out = Counter(line.reason for line in labelled.left_out)
    past = _versions(store)
    by_task = _by_live_task(labelled, live, past, left_out)
    reasons = {}
    tasks = {}
    for name, version in sorted(live.items()):
        if name not in by_task:
            if not (store.package_folder(version) / DECISION_JSON).exists():
                reasons[name] = CalibrationReason.NO_ROWS
            continue
        task_rows = _eligible_of_task(by_task[name], policy, store, version, past[name], left_out, unverified)
        if task_rows.reason:
            reasons[name] = task_rows.reason
        if task_rows.reason not in _LEFT_OUT:
            tasks[name] = task_rows
    seen = [name for name, reason in reasons.items() if reason is CalibrationReason.UNVERIFIED]
    if seen and not unverified:
        raise InputError(
            f"predictions of {', '.join(seen)} are too good: the shared start (--start) was trained on these tasks. "
            "Calibrate on rows that nothing was trained on, train without --start, or take them with --unverified"
        )
    if by_task and not tasks:
        raise InputError(next(reservations(reasons, _LEFT_OUT)))
    return Eligible(policy, tasks, reasons, left_out, labelled.relabelled)


def reservations(
    reasons: Mapping[str, CalibrationReason], among: Iterable[CalibrationReason] = CalibrationReason
) -> Iterator[str]:
    """Yield a sentence for each of some reasons that tasks have."""
    for reason in among:
        if names := [name for name, its in reasons.items() if its is reason]:
            yield f"{len(names)} tasks {reason.value}: {first_of(names)}"


def _versions(store: Store) -> dict[str, dict[str, None]]:
    """Return the versions that each task ever had, the newest first."""
    versions: dict[str, dict[str, None]] = {}
    for line in reversed(store.history.entries()):
        versions.setdefault(line.task, {}).update(dict.fromkeys(v for v in (line.after, line.before) if v))
    return versions


def _by_live_task(
    labelled: LabelTable, live: Collection[str], past: Collection[str], left_out: Counter[str]
) -> dict[str, list[LabelledRow]]:
    by_task = labelled.by_task()
    for task in sorted(by_task.keys() - live):
        rows = by_task.pop(task)
        if not (by_task or task in past):
            raise InputError(f"{rows[0].where}: {task!r} is not a live task of this store")
        left_out[f"of a task that is {'no longer' if task in past else 'not'} live: {task}"] += len(rows)
    return by_task


def _eligible_of_task(
    rows: Rows,
    policy: ScoringPolicy,
    store: Store,
    live: str,
    past: Collection[str],
    left_out: Counter[str],
    unverified: bool,
) -> TaskRows:
    """Return the rows of one task, all of them where it keeps the calibration that it has; count the others."""
    files = PackageFiles(store.package_folder(live))
    task = files.task
    decisions = {version: store.decision(version) for version in (*past, live)}
    rows = _with_census(_on_the_live_scale(rows, task, store, past, left_out), decisions)
    looks = _looks_of(store.removed_looks().get(task.id, ()), store.history.entries(task.id), decisions)
    task_rows = TaskRows(task, live, files, decisions[live], rows, looks)
    chosen_by = [row.chosen_by for row in rows]
    if routed_only(chosen_by):
        return replace(task_rows, reason=CalibrationReason.LACKS_SAMPLE)
    beside = routed_beside(chosen_by, [row.version for row in rows])
    if beside.any():
        left_out["read since they were sent to people, beside a sample of all responses"] += int(beside.sum())
        rows = [row for row, routed in zip(rows, beside, strict=True) if not routed]
    adapters = {row.adapter for row in rows if row.probabilities is not None}
    foreign = bool(adapters) and adapters != {adapter_digest(files)}
    if foreign and not unverified:
        return replace(task_rows, reason=CalibrationReason.NOT_OF_LIVE_ADAPTERS)
    held_out = _held_out(rows, TrainedRows.read(files.path / TRAINED_JSON), left_out)
    if rows and not held_out:
        return replace(task_rows, reason=CalibrationReason.TRAINED_ON)
    rows = held_out
    for row in rows:
        row.check(len(task.levels))
    reason = CalibrationReason.UNVERIFIED if foreign or any(row.seen_by_start for row in rows) else None
    return replace(task_rows, rows=_without_conditions(rows, task, policy, left_out), reason=reason)


def _looks_of(
    removed: Sequence[Look], lines: Iterable[HistoryLine], decisions: Mapping[str, Decision | None]
) -> tuple[Look, ...]:
    """Return all looks of a task in order. removed: Those of versions that `gc` removed."""
    found = [*(decisions.get(line.after or "") for line in lines), *decisions.values()]
    looks = dict[str, Look]()
    for look in (*removed, *(look for decision in found if decision for look in decision.looks)):
        looks.setdefault(look.digest, look)
    return tuple(looks.values())


def _held_out(rows: Rows, trained: TrainedRows | None, left_out: Counter[str]) -> Rows:
    """Return rows of one task that its adapter was not trained on, or that have a prediction from another fold."""
    if trained is None:
        return rows
    kept = [row for row in rows if row.probabilities is not None or not trained.has(row)]
    left_out[TRAINED_ON] += len(rows) - len(kept)
    left_out[SAME_TEXT] += sum(row.probabilities is None and trained.has_text(row) for row in kept)
    return kept


def _on_the_live_scale(rows: Rows, task: Task, store: Store, past: Collection[str], left_out: Counter[str]) -> Rows:
    """Return rows of one task without those that people read when it had another number of levels."""
    versions = {row.version for row in rows}
    folders = [store.package_folder(version) for version in past if version in versions]
    other_scale = {
        folder.name
        for folder in folders
        if folder.exists() and len(PackageFiles(folder).task.levels) != len(task.levels)
    }
    kept = [row for row in rows if row.version not in other_scale]
    if len(kept) < len(rows):
        left_out["read when their task had another number of levels"] += len(rows) - len(kept)
    return kept


def _with_census(rows: Rows, decisions: Mapping[str, Decision | None]) -> Rows:
    """Return rows of one task; those of a version that sent all responses to people are a sample of all responses.

    For rows that do not say which version scored them, none of the task's versions may keep a response.

    Args:
        decisions: Of all versions of the task.
    """
    routed = {row.version for row in rows if row.chosen_by == ROUTE}
    census = set[str | None]()
    keep_some = False
    for version, decision in decisions.items():
        if decision is not None and (None in routed or version in routed):
            if decision.threshold is not None and decision.threshold.least is None:
                census.add(version)
            else:
                keep_some = True
    if census and not keep_some:
        census.add(None)
    return [replace(row, chosen_by=ALL) if row.chosen_by == ROUTE and row.version in census else row for row in rows]


def _without_conditions(rows: Rows, task: Task, policy: ScoringPolicy, left_out: Counter[str]) -> Rows:
    """Return the rows of a task whose texts have no condition."""
    finder = Finder(
        policy.conditions_of(task.id),
        task.question,
        task.reference,
        [task.language],
    )
    conditions = [None if row.text is None else finder.find(row.text) for row in rows]
    left_out.update(f"condition {condition.code}" for condition in conditions if condition)
    return [row for row, condition in zip(rows, conditions, strict=True) if condition is None]
