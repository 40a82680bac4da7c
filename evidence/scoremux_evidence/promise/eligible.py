"""Labelled rows → the rows of each live task that its calibration may rest on."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from enum import Enum

import numpy as np
import pyarrow as pa

from scoremux_client.errors import InputError
from scoremux_decide.conditions.finder import Finder
from scoremux_decide.decision import Decision, Look
from scoremux_decide.policy import ScoringPolicy
from scoremux_engine.packages.package import adapter_digest
from scoremux_engine.packages.package_files import DECISION_JSON, TRAINED_JSON, PackageFiles
from scoremux_engine.packages.task import Task
from scoremux_engine.store.history import HistoryLine
from scoremux_engine.store.store import Store
from scoremux_evidence.rows import rules
from scoremux_evidence.rows.table import Reasons, Rows
from scoremux_evidence.rows.trained_rows import TrainedRows, TrainedVersions
from scoremux_evidence.rows.weighing import ALL, LACKS_SAMPLE, ROUTE, chosen, routed_only
from scoremux_files.errors import first_of
from scoremux_files.rows.columns import encode


class CalibrationReason(Enum):
    """Why a task gets no calibration, or one with a reservation. The value follows "N tasks" in a sentence."""

    NOT_OF_LIVE_ADAPTERS = (
        "keep the calibration that they have, if any. Their predictions are not known to come from the live adapters: "
        "publish the adapters of the same run of `scoremux train`"
    )
    LACKS_SAMPLE = f"keep the calibration that they have, if any. Their {LACKS_SAMPLE}"
    TRAINED_ON = (
        "keep the calibration that they have, if any. All of their labelled rows were trained on by the live adapters: "
        "give the out-of-fold predictions of `scoremux train` (--predictions), or rows that were held out"
    )
    READ_BEFORE = (
        "keep the calibration that they have, if any. All of their labels were read before the change that put them on "
        "hold, and say nothing of the time since: let people read a new random sample, or name the day with --since"
    )
    OTHER_TRAIT = (
        "keep the calibration that they have, if any. Another trait of their item has no rows to use, and the traits "
        "of a response have one route"
    )
    NO_ROW_LEFT = (
        "have no row that can be used; people get all of their responses, or the machine where the policy has no target"
    )
    NO_ROWS = "are live and NOT calibrated, as they have no labelled rows; people get all of their responses"
    NO_CONFIDENCE = "have no confidence; a target sends all their responses to people"
    UNTRAINED = "were trained on no labelled row; people get all of their responses"


@dataclass(frozen=True)
class TaskRows:
    """The rows that the calibration of one live task rests on.

    Attributes:
        rows: All but those of texts with a condition; after `score_rows` with what the machine said of them.
        item: Where this is a trait of an item, the item's id and the trait's name.
        looks: Earlier tests of its promises.
        reason: Why it keeps the calibration that it has; None where it gets a new one.
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
    item: tuple[str, str] | None = None
    looks: tuple[Look, ...] = ()
    reason: CalibrationReason | None = None
    scores: Rows | None = None
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
        arithmetic: That of probabilities and vectors, None if only training computed them.
    """

    policy: ScoringPolicy
    tasks: dict[str, TaskRows]
    reasons: dict[str, CalibrationReason]
    left_out: Reasons
    arithmetic: str | None = None


def eligible_rows(store: Store, policy: ScoringPolicy, labelled: Rows, *, since: date | None = None) -> Eligible:
    """Return the rows that calibrations may rest on. Rows with a condition are left out: no machine keeps them.

    Args:
        labelled: From `read_labelled`; no adapter was fitted to the rows without a prediction.
        since: The day from which labels count; by default, for each task, the day of its last hold, if it had one.

    Raises:
        InputError: All rows are of tasks that were never live; a row has a level that its task does not have; or of no
            task have rows a sample of all responses, or predictions that are known to come from its live adapter.
    """
    traits = _traits(store, labelled.task.values)
    live = dict[str, str]()
    past = dict[str, dict[str, None]]()
    versions = _versions(store)
    for item, digest in store.manifest().tasks.items():
        live |= dict.fromkeys(traits.get(item, [item]), digest)
    for item, digests in versions.items():
        past |= dict.fromkeys(traits.get(item, [item]), digests)
    of_live = labelled.without(rules.of_no_live_task(labelled, live, past))
    if len(labelled) and not len(of_live) and not {*labelled.task.texts()} & {*past}:
        raise InputError(f"{labelled.place(0)}: {labelled.task.texts()[0]!r} is not a live task of this store")
    by_task = of_live.by_task()
    reasons = {}
    tasks = {}
    parts = [of_live.left_out]
    for name, version in sorted(live.items()):
        if name not in by_task:
            if not (store.package_folder(version) / DECISION_JSON).exists():
                reasons[name] = CalibrationReason.NO_ROWS
            continue
        task_rows = _eligible_of_task(name, by_task[name], policy, store, version, past[name], since)
        parts.append(task_rows.rows.left_out)
        if task_rows.reason:
            reasons[name] = task_rows.reason
        else:
            tasks[name] = task_rows
    for names in traits.values():
        if not all(name in tasks for name in names):
            reasons |= {name: CalibrationReason.OTHER_TRAIT for name in names if tasks.pop(name, None)}
    if by_task and not tasks:
        raise InputError(next(reservations(reasons)))
    return Eligible(
        policy=policy,
        tasks=tasks,
        reasons=reasons,
        left_out=replace(labelled, left_out={}).noting(*parts).left_out,
    )


def reservations(reasons: Mapping[str, CalibrationReason]) -> Iterator[str]:
    """Yield a sentence for each reason that tasks have, those without a new calibration first."""
    for reason in CalibrationReason:
        if names := [name for name, its in reasons.items() if its is reason]:
            yield f"{len(names)} tasks {reason.value}: {first_of(names)}"


def _versions(store: Store) -> dict[str, dict[str, None]]:
    """Return the versions that each task ever had, the newest first."""
    versions: dict[str, dict[str, None]] = {}
    for line in reversed(store.history.entries()):
        versions.setdefault(line.task, {}).update(dict.fromkeys(v for v in (line.after, line.before) if v))
    return versions


def _traits(store: Store, named: Collection[str]) -> dict[str, list[str]]:
    """Return the ids of the traits of each live item that is named, or one of whose traits is."""
    found, live = {}, store.manifest().tasks
    for item in sorted({*named, *(name.rpartition(".")[0] for name in named)} & live.keys()):
        task = PackageFiles(store.package_folder(live[item])).task
        if task.traits:
            found[item] = [f"{item}.{name}" for name in task.traits]
    return found


def _eligible_of_task(
    name: str,
    rows: Rows,
    policy: ScoringPolicy,
    store: Store,
    live: str,
    past: Collection[str],
    since: date | None,
) -> TaskRows:
    """Return the rows of one task or trait, all of them where it keeps the calibration that it has."""
    files = PackageFiles(store.package_folder(live))
    task, item = files.task, None
    decisions = {version: store.decision(version) for version in (*past, live)}
    history = store.history.entries(task.id)
    looks = _looks_of(store.removed_looks().get(task.id, ()), history, decisions)
    if task.traits:
        item = task.id, name.rpartition(".")[2]
        task, _, _ = task.slices[item[1]]
        decisions = {version: decision and decision.of(item[1]) for version, decision in decisions.items()}
    rows = rows.without(rules.other_scale(rows, _of_other_scale(rows, store, past, task)))
    rows = _with_census(rows, decisions)
    task_rows = TaskRows(task, live, files, decisions[live], rows, item, looks)
    if day := since or _last_hold(history):
        task_rows = replace(task_rows, rows=rows.without(rules.read_before(rows, day.isoformat())))
        if len(rows) and not len(task_rows.rows):
            return replace(task_rows, reason=CalibrationReason.READ_BEFORE)
        rows = task_rows.rows
    if routed_only(rows):
        return replace(task_rows, reason=CalibrationReason.LACKS_SAMPLE)
    rows = rows.without(rules.sent_to_people(rows))
    is_predicted = rows.probabilities != np.array(None)
    adapters = {*rows.adapter.take(np.flatnonzero(is_predicted)).texts()}
    if adapters and adapters != {adapter_digest(files)}:
        return replace(task_rows, rows=rows, reason=CalibrationReason.NOT_OF_LIVE_ADAPTERS)
    trained = TrainedVersions.of(task.id, TrainedRows.read(files.path / TRAINED_JSON))
    learned = rules.learned(rows, trained, np.ones(len(rows), bool))
    held_out = rows.counting({rules.SAME_TEXT: learned.pop(rules.SAME_TEXT)}).without(learned)
    if len(rows) and not len(held_out):
        return replace(task_rows, rows=held_out, reason=CalibrationReason.TRAINED_ON)
    rules.refuse_off_scale(held_out, len(task.levels))
    finder = Finder(policy.conditions_of(item[0] if item else task.id), task.question, task.reference, [task.language])
    return replace(task_rows, rows=held_out.without(rules.has_condition(held_out, finder)))


def _last_hold(history: Iterable[HistoryLine]) -> date | None:
    """Return the day on which a task was last put on hold: labels of before it are of another time."""
    return max((line.when.date() for line in history if line.action == "hold"), default=None)


def _looks_of(
    removed: Sequence[Look], lines: Iterable[HistoryLine], decisions: Mapping[str, Decision | None]
) -> tuple[Look, ...]:
    """Return all looks of a task in order. removed: Those of versions that `gc` removed."""
    found = [*(decisions.get(line.after or "") for line in lines), *decisions.values()]
    looks = dict[str, Look]()
    for look in (*removed, *(look for decision in found if decision for look in decision.looks)):
        looks.setdefault(look.digest, look)
    return tuple(looks.values())


def _of_other_scale(rows: Rows, store: Store, past: Collection[str], task: Task) -> list[str]:
    """Return the versions that scored some rows of a task when it had another number of levels."""
    used = {*rows.version.texts()}
    folders = [store.package_folder(version) for version in past if version in used]
    scales = {folder.name: PackageFiles(folder).task.scales for folder in folders if folder.exists()}
    return [version for version, scale in scales.items() if len(scale.get(task.id, ())) != len(task.levels)]


def _with_census(rows: Rows, decisions: Mapping[str, Decision | None]) -> Rows:
    """Return rows of one task; those of a version that sent all responses to people are a sample of all responses.

    Args:
        decisions: Of all versions of the task.
    """
    thresholds = {version: decision.threshold for version, decision in decisions.items() if decision}
    census = {version for version, threshold in thresholds.items() if threshold and threshold.least is None}
    is_census = chosen(rows, ROUTE) & rows.version.among(census)
    if not is_census.any():
        return rows
    reasons = zip(is_census.tolist(), rows.chosen_by.texts(), strict=True)
    chosen_by = [ALL if is_all else reason for is_all, reason in reasons]
    return rows.plus(chosen_by=encode(pa.array(chosen_by, "string")))
