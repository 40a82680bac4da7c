"""Labelled rows of live tasks → their new versions: eligible rows → scored rows → fitted decisions → published."""

from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from scoremux_decide.decision import NEW_TASK, Decision, Look
from scoremux_decide.policy import ScoringPolicy
from scoremux_engine.engine import Engine
from scoremux_engine.packages.package_files import DECISION_JSON
from scoremux_engine.store.history import Change
from scoremux_engine.store.store import Store
from scoremux_evidence.figures.intervals import estimates_of_tasks
from scoremux_evidence.promise.eligible import CalibrationReason, Eligible, TaskRows, eligible_rows
from scoremux_evidence.promise.fit import Fitted, Tasks, decision_without_confidence, fit
from scoremux_evidence.promise.item_total import ItemTotal
from scoremux_evidence.promise.scored import score_rows
from scoremux_evidence.rows.table import Rows
from scoremux_evidence.verdicts.verdicts import Verdict, fewer_fails, judge, read_criteria, worst
from scoremux_files.digests import digest_of

Verdicts = dict[str, tuple[Verdict, list[str]]]
"""The report's verdict of each task, and the criteria that it fails."""


@dataclass(frozen=True)
class Calibration(Fitted):
    """Decisions of tasks, and the rows that they rest on.

    Attributes:
        reasons: As those of `rows`, with those that scores give.
        failing: Tasks that go to people for their verdict.
    """

    rows: Eligible
    reasons: dict[str, CalibrationReason]
    verdicts: Verdicts
    failing: list[str]


def calibrate_tasks(
    engine: Engine,
    store: Store,
    policy: ScoringPolicy,
    labelled: Rows,
    *,
    since: date | None = None,
) -> Calibration:
    """Fit the decisions of all tasks that have rows, see `eligible_rows`. engine: scores rows without a prediction.

    Rows of untrained tasks are not part of a shared threshold.
    """
    rows = score_rows(engine, eligible_rows(store, policy, labelled, since=since))
    items = dict[str, list[str]]()
    for name, of in rows.tasks.items():
        if of.item:
            items.setdefault(of.item[0], []).append(name)
    totals = {}
    for item, names in items.items():  # one test, whose rows are those of all traits
        if rule := rows.tasks[names[0]].files.task.total:
            totals[item] = ItemTotal(rule, {name: rows.tasks[name].task.levels for name in names})
        digest = digest_of(rows.tasks[name].digest.encode() for name in names)
        of_item = {name: replace(rows.tasks[name], digest=digest) for name in names}
        rows = replace(rows, tasks=rows.tasks | of_item)
    reasons = _reasons(rows)
    trained = {
        name: of.scores
        for name, of in rows.tasks.items()
        if of.scores is not None and reasons.get(name) is not CalibrationReason.UNTRAINED
    }
    looks = {name: _looks(policy, rows.tasks[name], of) for name, of in trained.items()}
    numbers = {name: number for name, (_, number) in looks.items()}
    verdicts = _verdicts(policy, trained) if trained else {}
    gate = {"fail": Verdict.FAIL, "not enough rows": Verdict.NOT_ENOUGH_ROWS, "off": -1}[policy.gate.verdict]
    failing = [name for name, (verdict, _) in verdicts.items() if verdict <= gate]
    fitted = fit(policy, trained, numbers, failing, items, totals)
    decisions = {
        name: replace(
            decision, arithmetic=rows.arithmetic, looks=looks[name][0] if name in looks else rows.tasks[name].looks
        )
        for name, decision in sorted((_without_promise(rows, reasons) | fitted.decisions).items())
    }
    return Calibration(
        **vars(replace(fitted, decisions=decisions)),
        rows=rows,
        reasons=reasons,
        verdicts=verdicts,
        failing=failing,
    )


def _verdicts(policy: ScoringPolicy, tasks: Tasks) -> Verdicts:
    """Return the verdicts of tasks as a report without groups has them."""
    criteria = [criterion for criterion in read_criteria(policy.criteria) if criterion.of == "task"]
    found = estimates_of_tasks([criterion.statistic for criterion in criteria], [*tasks.values()])
    by_task = {criterion: np.arange(len(tasks)) for criterion in criteria}
    judged = fewer_fails({criterion: judge(criterion, found[criterion.statistic]) for criterion in criteria}, by_task)
    overall = worst(judged.items(), len(tasks))
    verdicts = {}
    for n, name in enumerate(tasks):
        fails = [criterion.title for criterion, of in judged.items() if of.verdict[n] == Verdict.FAIL]
        verdicts[name] = Verdict(int(overall.verdict[n])), fails
    return verdicts


def _looks(policy: ScoringPolicy, task: TaskRows, scores: Rows) -> tuple[tuple[Look, ...], int]:
    """Return the tests of a task's promises, and which of them the present one is, whatever their targets.

    Rows that were looked at before are no further look: of targets that are tested on the same rows, the least one that
    is broken decides whether a broken one is found.
    """
    target = policy.target
    looks = task.looks
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
    policy = rows.policy
    decisions = dict[str, Decision]()
    for name, task_rows in rows.tasks.items():
        reason = reasons.get(name)
        untrained = reason is CalibrationReason.UNTRAINED
        if untrained and task_rows.scores is not None:
            decisions |= fit(policy.model_copy(update={"target": None}), {name: task_rows.scores}).decisions
        elif untrained or reason in (CalibrationReason.NO_CONFIDENCE, CalibrationReason.NO_ROW_LEFT):
            item, _ = task_rows.item or (name, "")
            decisions[name] = decision_without_confidence(policy, item, task_rows.count)
        if untrained or (reason is CalibrationReason.NO_ROW_LEFT and policy.target is not None):
            decisions[name] = replace(decisions[name], threshold=replace(NEW_TASK, rows=task_rows.count))
    return decisions


def publish(engine: Engine, store: Store, calibration: Calibration, *, dry_run: bool = False) -> list[Change]:
    """Publish all decisions in one change, or none. Raises StoreError where a task was changed meanwhile."""
    live, decisions = dict[str, TaskRows](), dict[str, Decision]()
    traits = dict[str, dict[str, Decision]]()
    for name, decision in calibration.decisions.items():
        task_rows = calibration.rows.tasks[name]
        item, trait = task_rows.item or (name, "")
        live[item] = task_rows
        if trait:
            traits.setdefault(item, {})[trait] = decision
        else:
            decisions[item] = decision
    decisions |= {item: Decision.joined(of_item) for item, of_item in traits.items()}
    packages = [live[item].files.replace(DECISION_JSON, decision.to_json()) for item, decision in decisions.items()]
    before = {item: live[item].version for item in decisions}
    return store.publish(packages, engine.backbone, before=before, dry_run=dry_run)
