"""Labelled rows of live tasks → their new versions: eligible rows → scored rows → fitted decisions → published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

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
from scoremux_assess.conclusions.assessment import judge_tasks
from scoremux_assess.conclusions.verdicts import Verdict, read_criteria
from scoremux_assess.labels.label_table import LabelTable
from scoremux_assess.labels.ratings import Ratings
from scoremux_calibrate.eligible import CalibrationReason, Eligible, TaskRows, eligible_rows
from scoremux_calibrate.scored import score_rows
from scoremux_decide.decision import NEW_TASK, Decision, Look
from scoremux_decide.policy import ScoringPolicy
from scoremux_engine.engine import Engine
from scoremux_engine.packages.package_files import DECISION_JSON
from scoremux_engine.store.history import Change
from scoremux_engine.store.store import Store


@dataclass(frozen=True)
class Calibration:
    """Decisions of tasks, and the rows that they rest on.

    Attributes:
        before: The decisions of the live versions, of tasks that have one.
        reasons: As those of `rows`, with those that scores give.
        worse: Tasks that keep a temperature of 1, as a fitted one made their confidences worse on held-out rows, with
            the change of their Brier score and its 95 % interval.
        one_level: Tasks without a threshold, as the machine gives one level to this share of their rows.
        below_gate: Tasks without a threshold, as their QWK is below the policy's.
        verdicts: The report's verdict of each task, and the criteria that it fails.
        failing: Tasks that go to people for their verdict.
        near_misses: What came nearest for tasks that were tested and keep nothing.
    """

    rows: Eligible
    decisions: dict[str, Decision]
    before: dict[str, Decision]
    reasons: dict[str, CalibrationReason]
    worse: dict[str, tuple[float, float, float]]
    one_level: dict[str, float]
    below_gate: dict[str, float]
    near_misses: dict[str, NearMiss]
    verdicts: dict[str, tuple[Verdict, list[str]]]
    failing: list[str]


def calibrate_tasks(
    engine: Engine, store: Store, policy: ScoringPolicy, labelled: LabelTable, *, unverified: bool = False
) -> Calibration:
    """Fit the decisions of all tasks that have rows, see `eligible_rows`. engine: scores rows without a prediction."""
    return fit_decisions(score_rows(engine, eligible_rows(store, policy, labelled, unverified=unverified)))


def fit_decisions(rows: Eligible) -> Calibration:
    """Return the decision of each task; rows of untrained tasks are no part of what others share."""
    policy, live, reasons = rows.policy, rows.tasks, _reasons(rows)
    scores = {name: task_rows.scores for name, task_rows in live.items() if task_rows.scores is not None}
    trained = {name: of for name, of in scores.items() if reasons.get(name) is not CalibrationReason.UNTRAINED}
    looks = {name: _looks(policy, live[name], of) for name, of in trained.items()}
    numbers = {name: number for name, (_, number) in looks.items()}
    verdicts = _verdicts(policy, trained) if trained else {}
    failing = _failing(policy, verdicts)
    decisions = _without_promise(rows, reasons)
    decisions |= fit(policy, trained, numbers, failing) if trained else {}
    fitted = {
        name: replace(
            decisions[name],
            arithmetic=rows.arithmetic,
            looks=looks[name][0] if name in looks else live[name].looks,
        )
        for name in sorted(decisions)
    }
    return Calibration(
        rows,
        fitted,
        {name: before for name in fitted if (before := rows.tasks[name].before) is not None},
        reasons,
        worse_confidences(trained),
        one_level(policy, trained),
        below_gate(policy, trained),
        near_misses(policy, fitted, scores),
        verdicts,
        failing,
    )


def _verdicts(policy: ScoringPolicy, tasks: Mapping[str, LabelledScores]) -> dict[str, tuple[Verdict, list[str]]]:
    """Return the report's verdict of each task, and the criteria that it fails."""
    unread = [np.full(len(of), np.nan) if of.second is None else of.second for of in tasks.values()]
    columns = [(of.human, of.level, of.weights, of.students) for of in tasks.values()]
    human, level, weight, student = (np.concatenate(column) for column in zip(*columns, strict=True))
    place = np.repeat(np.arange(len(tasks)), [len(of) for of in tasks.values()])
    who = None if (student < 0).all() else np.where(student < 0, student.max() + 1 + np.arange(len(student)), student)
    ratings = Ratings.of(human, level, np.concatenate(unread), weight=weight)
    judged, overall = judge_tasks(ratings, place, len(tasks), who, read_criteria(policy.criteria))
    fails = {
        name: [c.title for c, of in judged.items() if of.verdict[n] == Verdict.FAIL] for n, name in enumerate(tasks)
    }
    return {name: (Verdict(int(verdict)), fails[name]) for name, verdict in zip(tasks, overall.verdict, strict=True)}


def _failing(policy: ScoringPolicy, verdicts: Mapping[str, tuple[Verdict, list[str]]]) -> list[str]:
    worst = {"fail": Verdict.FAIL, "not enough rows": Verdict.NOT_ENOUGH_ROWS, "off": -1}[policy.gate.verdict]
    return [name for name, (verdict, _) in verdicts.items() if verdict <= worst]


def _looks(policy: ScoringPolicy, task: TaskRows, scores: LabelledScores) -> tuple[tuple[Look, ...], int]:
    """Return the tests of a task's promises, and which of them the present one is, whatever their targets.

    Rows that were looked at before are no further look: of targets that are tested on the same rows, the least one that
    is broken decides whether a broken one is found.
    """
    target, looks = policy.target, task.looks
    if target is None or target.human_share is not None or len(scores) < policy.rows.new:
        return looks, 1
    promise = target.model_dump_json(exclude={"human_share", "one_level"}, exclude_none=True)
    digests = [look.digest for look in looks]
    if task.digest in digests:
        return looks, digests.index(task.digest) + 1
    population = tuple(f"{count} {origin}" for origin, count in sorted(task.origins.items()))
    look = Look(date.today().isoformat(), promise, len(scores), population, task.digest)
    return (*looks, look), len(digests) + 1


def _reasons(rows: Eligible) -> dict[str, CalibrationReason]:
    """Return the reasons of eligible tasks, with those that their scores give."""
    reasons = dict(rows.reasons)
    for name, task_rows in rows.tasks.items():
        if not task_rows.count and task_rows.before is not None:
            continue  # no row is left, and the task keeps the calibration that it has
        if task_rows.task.untrained:
            reasons[name] = CalibrationReason.UNTRAINED
        elif task_rows.scores is None:
            reasons[name] = CalibrationReason.NO_CONFIDENCE if task_rows.count else CalibrationReason.NO_ROW_LEFT
    return dict(sorted(reasons.items()))


def _without_promise(rows: Eligible, reasons: dict[str, CalibrationReason]) -> dict[str, Decision]:
    """Return the decisions of eligible tasks that are untrained, or have no row with probabilities."""
    policy, decisions = rows.policy, dict[str, Decision]()
    for name, task_rows in rows.tasks.items():
        reason = reasons.get(name)
        untrained = reason is CalibrationReason.UNTRAINED
        if untrained and task_rows.scores is not None:
            decisions |= fit(policy.model_copy(update={"target": None}), {name: task_rows.scores})
        elif untrained or reason in (CalibrationReason.NO_CONFIDENCE, CalibrationReason.NO_ROW_LEFT):
            decisions[name] = decision_without_confidence(policy, name, task_rows.count)
        if untrained or (reason is CalibrationReason.NO_ROW_LEFT and policy.target is not None):
            decisions[name] = replace(decisions[name], threshold=replace(NEW_TASK, rows=task_rows.count))
    return decisions


def publish(engine: Engine, store: Store, calibration: Calibration, *, dry_run: bool = False) -> list[Change]:
    """Publish all decisions in one change, or none. Raises StoreError where a task was changed meanwhile."""
    live = {name: calibration.rows.tasks[name] for name in calibration.decisions}
    packages = [live[n].files.replace(DECISION_JSON, d.to_json()) for n, d in calibration.decisions.items()]
    before = {name: task_rows.version for name, task_rows in live.items()}
    return store.publish(packages, engine.backbone, before=before, dry_run=dry_run)
