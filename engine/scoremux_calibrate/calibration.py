"""Labelled rows of live tasks → their new versions, each with a `decision.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np
import numpy.typing as npt

from scoremux_assess.calibration.fit import (
    below_gate,
    decision_without_confidence,
    fit,
    near_misses,
    one_level,
    worse_confidences,
)
from scoremux_assess.calibration.labelled_scores import LabelledScores
from scoremux_assess.calibration.thresholds import NearMiss
from scoremux_assess.labels.labelled_rows import LabelledRow, LabelledRows
from scoremux_assess.labels.similar_texts import fold
from scoremux_assess.labels.weights import LACKS_SAMPLE, routed_beside, routed_only
from scoremux_calibrate.calibrated_rows import (
    decision_of,
    on_the_live_scale,
    origin_of,
    with_census,
    without_conditions,
)
from scoremux_client.contract import TASK_PATTERN
from scoremux_client.errors import InputError
from scoremux_client.rows import Scored
from scoremux_decide.decision import NEW_TASK, Decision
from scoremux_decide.policy import ScoringPolicy
from scoremux_engine.engine import Engine
from scoremux_engine.errors import EngineError
from scoremux_engine.packages.package import adapter_digest
from scoremux_engine.packages.package_files import DECISION_JSON, PackageFiles
from scoremux_engine.packages.task import Task
from scoremux_engine.store.history import Change
from scoremux_engine.store.store import Store
from scoremux_files.errors import first_of

NO_PROBABILITIES = "the task's head gives one value and no probabilities"
"""Why rows of a task with a regression head are left out."""

_ROUTED = "read since they were sent to people, beside a sample of all responses"
_BATCH_ROWS = 256


class CalibrationReason(Enum):
    """Why a task gets no calibration, or one with a reservation. The value follows "N tasks" in a sentence."""

    UNVERIFIED = "are NOT VERIFIED: their predictions may not come from the live adapters, and then all here is wrong"
    NOT_OF_LIVE_ADAPTERS = (
        "keep the calibration that they have, if any. Their predictions are not known to come from the live adapters: "
        "publish the adapters of the same run of `scoremux train`, or use the predictions all the same with "
        "--unverified"
    )
    LACKS_SAMPLE = f"keep the calibration that they have, if any. Their {LACKS_SAMPLE}"
    NO_ROW_LEFT = (
        "have no row that can be used; people get all of their responses, or the machine where the policy has no target"
    )
    NO_ROWS = "are live and NOT calibrated, as they have no labelled rows; people get all of their responses"
    NO_CONFIDENCE = "have no confidence; a target sends all their responses to people"
    UNTRAINED = "were trained on no labelled row; people get all of their responses"


_LEFT_OUT = (CalibrationReason.LACKS_SAMPLE, CalibrationReason.NOT_OF_LIVE_ADAPTERS)


@dataclass
class Calibration:
    """Decisions of tasks, and the rows that they rest on.

    Attributes:
        versions: The digest that each task's rows were scored with.
        tasks: The rows of each task that have probabilities.
        decisions: By task.
        rows: How many labelled rows each task has.
        reasons: Why tasks get no calibration, or one with a reservation; live tasks without rows included.
        out_of_fold: Rows whose predictions came from training.
        scored: Rows that the live versions scored.
        relabelled: Rows whose labels in the predictions were others than in the files.
        worse: Tasks that keep a temperature of 1, as a fitted one made their confidences worse on held-out rows, with
            the change of their Brier score and its 95 % interval.
        one_level: Tasks without a threshold, as the machine gives one level to this share of their rows.
        below_gate: Tasks without a threshold, as their QWK is below the policy's.
        before: The decisions of the live versions, of tasks that have one.
        origins: How many rows of each task come from which file, by file and by how they were chosen.
        left_out: Rows that no decision rests on, by reason.
        near_misses: What came nearest for tasks that were tested and keep nothing.
    """

    versions: dict[str, str]
    tasks: dict[str, LabelledScores] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)
    rows: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, CalibrationReason] = field(default_factory=dict)
    out_of_fold: int = 0
    scored: int = 0
    relabelled: int = 0
    worse: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    near_misses: dict[str, NearMiss] = field(default_factory=dict)
    one_level: dict[str, float] = field(default_factory=dict)
    below_gate: dict[str, float] = field(default_factory=dict)
    before: dict[str, Decision] = field(default_factory=dict)
    origins: dict[str, Counter[str]] = field(default_factory=dict)

    def leave_out(self, name: str, reason: CalibrationReason) -> None:
        """Leave a task out: it keeps the calibration that it has, if any."""
        self.reasons[name] = reason
        del self.versions[name]

    def reservations(self, reasons: Iterable[CalibrationReason] = CalibrationReason) -> Iterator[str]:
        """Yield a sentence for each of some reasons that tasks have."""
        for reason in reasons:
            if names := [name for name, its in self.reasons.items() if its is reason]:
                yield f"{len(names)} tasks {reason.value}: {first_of(names)}"


def calibrate_tasks(
    engine: Engine, store: Store, policy: ScoringPolicy, labelled: LabelledRows, *, unverified: bool = False
) -> Calibration:
    """Fit the decisions of all tasks that have rows. Rows with a condition are left out: no machine keeps them.

    Args:
        engine: Scores the rows without a prediction, and gives the vectors of those with a text.
        store: Where the live versions are.
        policy: The programme's rules.
        labelled: Labelled rows; no adapter was fitted to those without a prediction.
        unverified: Whether predictions may come from another adapter than the live one, or not say from which.

    Raises:
        InputError: A row is of a task that was never live, or has a level that its task does not have; or of no task
            have rows a sample of all responses, or predictions that are known to come from its live adapter.
    """
    live, retired = store.manifest().tasks, Counter[str]()
    past: dict[str, set[str]] = {}
    for line in store.history.entries():
        past.setdefault(line.task, set()).update(v for v in (line.before, line.after) if v)
    by_task: dict[str, list[LabelledRow]] = {}
    for row in labelled.rows:
        if row.task in live:
            by_task.setdefault(row.task, []).append(row)
        elif row.task in past:
            retired[f"of a task that is no longer live: {row.task}"] += 1
        else:  # what is no task's id may be a text, which must not be shown
            shown = repr(row.task) if TASK_PATTERN.fullmatch(row.task) else "its task"
            raise InputError(f"{row.where}: {shown} is not a live task of this store")
    students = {name: number for number, name in enumerate({row.student for row in labelled.rows} - {None})}
    calibration = Calibration({name: live[name] for name in by_task}, relabelled=labelled.relabelled)
    calibration.left_out.update(labelled.left_out + retired)

    def is_new(name: str) -> bool:
        return not (store.package_folder(live[name]) / DECISION_JSON).exists()

    calibration.reasons |= {n: CalibrationReason.NO_ROWS for n in sorted(live.keys() - by_task.keys()) if is_new(n)}
    seen: list[str] = []
    for name in sorted(by_task):
        folder = store.package_folder(live[name])
        task = Task.read(folder)
        by_task[name] = on_the_live_scale(by_task[name], task, store, past[name], calibration.left_out)
        by_task[name] = with_census(by_task[name], store, past[name])
        chosen_by = [row.chosen_by for row in by_task[name]]
        if routed_only(chosen_by):
            calibration.leave_out(name, CalibrationReason.LACKS_SAMPLE)
            continue
        beside = routed_beside(chosen_by, [row.version for row in by_task[name]])
        if beside.any():
            calibration.left_out[_ROUTED] += int(beside.sum())
        by_task[name] = [row for row, routed in zip(by_task[name], beside, strict=True) if not routed]
        adapters = {row.adapter for row in by_task[name] if row.probabilities is not None}
        foreign = bool(adapters - {adapter_digest(PackageFiles.of(folder))})
        if foreign and not unverified:
            calibration.leave_out(name, CalibrationReason.NOT_OF_LIVE_ADAPTERS)
            continue
        is_seen = not foreign and any(row.seen for row in by_task[name])
        if foreign or is_seen:
            calibration.reasons[name] = CalibrationReason.UNVERIFIED
        if is_seen:
            seen.append(name)
        for row in by_task[name]:
            row.check(len(task.levels))
        attempts = without_conditions(by_task[name], task, policy, calibration.left_out)
        scores, without = _score(engine, attempts, students, policy.unusual is not None, calibration)
        calibration.rows[name] = without if scores is None else len(scores)
        if scores is not None:
            calibration.tasks[name] = scores
        if task.untrained and (calibration.rows[name] or is_new(name)):
            calibration.reasons[name] = CalibrationReason.UNTRAINED
        elif scores is None and (without or is_new(name)):
            calibration.reasons[name] = CalibrationReason.NO_CONFIDENCE if without else CalibrationReason.NO_ROW_LEFT
    if seen and not unverified:
        raise InputError(
            f"predictions of {', '.join(seen)} are too good: the shared start (--start) was trained on these tasks. "
            "Calibrate on rows that nothing was trained on, train without --start, or take them with --unverified"
        )
    if not calibration.versions:
        for sentence in calibration.reservations(_LEFT_OUT):
            raise InputError(sentence)
    decisions = _decisions(policy, calibration)
    # Predictions of training are nobody's arithmetic; vectors are the engine's in any case.
    arithmetic = engine.arithmetic if calibration.scored or policy.unusual else None
    calibration.decisions = {name: replace(decision, arithmetic=arithmetic) for name, decision in decisions.items()}
    calibration.near_misses = near_misses(policy, decisions, calibration.tasks)
    before = {name: decision_of(store.package_folder(calibration.versions[name])) for name in decisions}
    calibration.before = {name: decision for name, decision in before.items() if decision is not None}
    return calibration


def _decisions(policy: ScoringPolicy, calibration: Calibration) -> dict[str, Decision]:
    """Return the decision of each task; rows of untrained tasks are no part of what others share."""
    reasons = calibration.reasons
    trained = {
        name: rows for name, rows in calibration.tasks.items() if reasons.get(name) is not CalibrationReason.UNTRAINED
    }
    decisions = fit(policy, trained) if trained else {}
    calibration.worse = worse_confidences(trained)
    calibration.one_level, calibration.below_gate = one_level(policy, trained), below_gate(policy, trained)
    for name, reason in reasons.items():
        rows = calibration.rows[name]
        if reason is CalibrationReason.UNTRAINED and name in calibration.tasks:
            decisions |= fit(policy.model_copy(update={"target": None}), {name: calibration.tasks[name]})
        elif reason in (CalibrationReason.UNTRAINED, CalibrationReason.NO_CONFIDENCE, CalibrationReason.NO_ROW_LEFT):
            decisions[name] = decision_without_confidence(policy, name, rows)
        if reason is CalibrationReason.UNTRAINED or (
            reason is CalibrationReason.NO_ROW_LEFT and policy.target is not None
        ):
            decisions[name] = replace(decisions[name], threshold=replace(NEW_TASK, rows=rows))
    return dict(sorted(decisions.items()))


def publish(engine: Engine, store: Store, calibration: Calibration, *, dry_run: bool = False) -> list[Change]:
    """Publish all decisions in one change, or none.

    Args:
        engine: Its backbone checks the packages.
        store: Where the live versions are.
        calibration: The decisions.
        dry_run: Check everything and publish nothing.

    Raises:
        StoreError: A task was changed meanwhile, or the store cannot be changed.
    """
    before = {name: calibration.versions[name] for name in calibration.decisions}
    packages = [
        PackageFiles.of(store.package_folder(before[name])).replace(DECISION_JSON, decision.to_json())
        for name, decision in calibration.decisions.items()
    ]
    return store.publish(packages, engine.backbone, before=before, dry_run=dry_run)


def _score(
    engine: Engine,
    rows: Sequence[LabelledRow],
    students: Mapping[str | None, int],
    vectors: bool,
    calibration: Calibration,
) -> tuple[LabelledScores | None, int]:
    """Return the rows of one task that have probabilities, None if none has, and how many the head gives none.

    Args:
        engine: Scores the rows without a prediction.
        rows: Of one task.
        students: A number for each student.
        vectors: Whether to keep those that the head read.
        calibration: Where rows are counted.
    """
    kept: list[tuple[LabelledRow, int, Sequence[float], npt.NDArray[np.float32] | None]] = []
    without = 0
    for row, answer in zip(rows, _answers(engine, rows, vectors), strict=True):
        vector = None if answer is None else answer.embedding
        if row.probabilities is not None:
            calibration.out_of_fold += 1
            kept.append((row, int(np.argmax(row.probabilities)), row.probabilities, vector))
        elif answer is not None:
            calibration.scored += 1
            if answer.probabilities:
                kept.append((row, answer.level, answer.probabilities, vector))
            else:
                without += answer.ok
                calibration.left_out[NO_PROBABILITIES if answer.ok else str(answer.status)] += 1
    if not kept:
        return None, without
    labelled, level, probabilities, pooled = zip(*kept, strict=True)
    calibration.origins[rows[0].task] = Counter(map(origin_of, labelled))
    texts = [row.id if row.text is None else f"{fold(row.text)}\0" for row in labelled]
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    scores = LabelledScores(
        np.array(probabilities, dtype=np.float32).astype(np.float64),
        np.array(level, dtype=np.int64),
        np.array([row.level for row in labelled], dtype=np.int64),
        np.array([np.nan if row.second is None else row.second for row in labelled], dtype=np.float64),
        _stack(engine, pooled) if vectors else None,
        np.array([row.weight for row in labelled], dtype=np.float64),
        np.array([students.get(row.student, -1) for row in labelled], dtype=np.int64),
        np.array([numbers[text] for text in texts], dtype=np.int64),
    )
    return scores, without


def _answers(engine: Engine, rows: Sequence[LabelledRow], vectors: bool) -> list[Scored | None]:
    """Return what the live version gives each row, None where that is not needed; each row is computed once at most."""
    answers: list[Scored | None] = [None] * len(rows)
    places = [n for n, row in enumerate(rows) if row.probabilities is None or (vectors and row.text is not None)]
    for first in range(0, len(places), _BATCH_ROWS):
        part = places[first : first + _BATCH_ROWS]
        texts, tasks = [rows[place].text or "" for place in part], [rows[place].task for place in part]
        for place, answer in zip(part, engine.score_plainly(texts, tasks, embeddings=vectors), strict=True):
            answers[place] = answer
    return answers


def _stack(engine: Engine, vectors: Sequence[npt.NDArray[np.float32] | None]) -> npt.NDArray[np.float32]:
    """Return float32 [B, H]; NaN for rows without a vector."""
    if all(vector is None for vector in vectors):
        raise EngineError("the policy's rule `unusual` needs the texts of labelled rows; name their files")
    none = np.full(engine.backbone.spec.pooled_size, np.nan, dtype=np.float32)
    return np.stack([none if vector is None else vector for vector in vectors])
