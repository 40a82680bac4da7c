"""Labelled rows and a policy → the decision of each task."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from scoremux_assess.calibration.labelled_scores import Floats, LabelledScores
from scoremux_assess.calibration.ranges import Growth, fit_ranges
from scoremux_assess.calibration.temperature import changes_of_brier, fit_temperatures, held_out_temperatures
from scoremux_assess.calibration.tested_rows import RowsUnderTest, effective_rows
from scoremux_assess.calibration.thresholds import (
    NearMiss,
    Promise,
    choose,
    choose_by_task,
    nearest,
    share_threshold,
)
from scoremux_assess.calibration.unusual import fit_unusual
from scoremux_assess.statistics.agreement import qwk
from scoremux_client.contract import Reason
from scoremux_client.errors import InputError
from scoremux_decide.decision import NONE, OWN, POOLED, Decision, Expected, LevelRange, Temperature, Threshold, Unusual
from scoremux_decide.policy import AgreementTarget, ScoringPolicy

_LOW = Reason.LOW_CONFIDENCE.value
_ONE_LEVEL = 0.95
"""The share of rows with one level of the machine from which on the level says nothing about a response."""


def fit(
    policy: ScoringPolicy,
    tasks: Mapping[str, LabelledScores],
    looks: Mapping[str, int] | None = None,
    failing: Collection[str] = (),
) -> dict[str, Decision]:
    """Return the decision of each task.

    Args:
        looks: How often each task's promise was tested, this time included; by default it is the first time for all.
        failing: Tasks that go to people for their verdict.

    Raises:
        InputError: The policy compares with two humans, and the rows have one.
    """
    temperatures, held_out = _temperatures(tasks)
    thresholds, tested = _choose_all(policy, tasks, held_out, looks or {}, failing)
    ranges: dict[str, LevelRange] = {}
    if policy.range_confidence is not None:
        growths = {name: Growth.of(rows, rows.calibrated(held_out[name])) for name, rows in tasks.items()}
        ranges = fit_ranges(growths, policy.rows.own, policy.range_confidence)
    return {
        name: Decision(
            policy.digest,
            policy.conditions_of(name),
            policy.truncated_to_people,
            temperatures[name],
            thresholds.get(name),
            ranges.get(name),
            _unusual(policy, rows),
            expected=_expected(rows, tested[name], thresholds[name].least) if name in tested else None,
        )
        for name, rows in tasks.items()
    }


def _temperatures(tasks: Mapping[str, LabelledScores]) -> tuple[dict[str, Temperature], dict[str, Floats]]:
    """Return the temperature of each task, and those of its rows that the row's own label has no part in."""
    pooled, values = fit_temperatures(list(tasks.values()))
    temperatures = {
        name: Temperature(value if len(rows) else pooled, OWN if len(rows) else POOLED, len(rows))
        for (name, rows), value in zip(tasks.items(), values, strict=True)
    }
    held_out = dict(zip(tasks, held_out_temperatures(list(tasks.values())), strict=True))
    for name in worse_confidences(tasks):
        temperatures[name], held_out[name] = Temperature(1.0, NONE, len(tasks[name])), np.ones(len(tasks[name]))
    return temperatures, held_out


def _choose_all(
    policy: ScoringPolicy,
    tasks: Mapping[str, LabelledScores],
    held_out: Mapping[str, Floats],
    looks: Mapping[str, int],
    failing: Collection[str],
) -> tuple[dict[str, Threshold], dict[str, RowsUnderTest]]:
    """Return the threshold of each task, and the rows that it was tested on, of tasks that were."""
    thresholds: dict[str, Threshold] = {}
    tested: dict[str, RowsUnderTest] = {}
    alike = {*one_level(policy, tasks), *failing, *below_gate(policy, tasks)}
    if policy.target is not None:
        tested = {n: RowsUnderTest.of(rows, held_out[n]) for n, rows in tasks.items() if n not in alike}
        counts = {name: len(rows) for name, rows in tasks.items()}
        thresholds = _thresholds(policy, policy.target, tested, counts, looks)
    for name in alike:
        thresholds[name] = _everyone(Reason.LOW_CONFIDENCE, OWN, len(tasks[name]))
    return thresholds, tested


def worse_confidences(tasks: Mapping[str, LabelledScores]) -> dict[str, tuple[float, float, float]]:
    """Return tasks whose confidences a temperature makes worse on held-out rows, with the change of the Brier score."""
    changes = zip(tasks, changes_of_brier(list(tasks.values())), strict=True)
    return {name: change for name, change in changes if change[1] > 0}


def one_level(policy: ScoringPolicy, tasks: Mapping[str, LabelledScores]) -> dict[str, float]:
    """Return tasks that have no threshold as the machine gives one level to this share of the rows, by task."""
    target = policy.target
    if target is None or target.one_level == "keep" or target.human_share is not None:
        return {}
    shares = {
        name: float(np.bincount(rows.level, rows.weights).max() / rows.weights.sum())
        for name, rows in tasks.items()
        if len(rows) >= max(1, policy.rows.new)
    }
    return {name: share for name, share in shares.items() if share >= _ONE_LEVEL}


def below_gate(policy: ScoringPolicy, tasks: Mapping[str, LabelledScores]) -> dict[str, float]:
    """Return tasks that have no threshold as their QWK is below the policy's, with their QWK."""
    least = policy.gate.qwk
    if least is None:
        return {}
    tested = {name: rows for name, rows in tasks.items() if len(rows) >= max(1, policy.rows.new)}
    # Undefined where both give one and the same level: nothing shows that the machine tells responses apart.
    kappas = {n: np.nan_to_num(qwk(rows.human, rows.level, rows.weights)).item() for n, rows in tested.items()}
    return {name: kappa for name, kappa in kappas.items() if kappa < least}


def near_misses(
    policy: ScoringPolicy, decisions: Mapping[str, Decision], tasks: Mapping[str, LabelledScores]
) -> dict[str, NearMiss]:
    """Return what came nearest for tasks that were tested and keep nothing, by themselves, by task."""
    misses = {}
    for name, decision in decisions.items():
        threshold, temperature = decision.threshold, decision.temperature
        if policy.target and temperature and threshold and threshold.confidence and threshold.least is None:
            miss = nearest(RowsUnderTest.of(tasks[name], temperature.value), _promise(policy.target))
            if miss is not None:
                needed = None if miss.needed is None else max(miss.needed, policy.rows.own)
                misses[name] = replace(miss, needed=needed)
    return misses


def decision_without_confidence(policy: ScoringPolicy, task: str, rows: int) -> Decision:
    """Return the decision of a task whose head gives no probabilities: a target sends all its rows to people.

    rows: how many labelled ones it has.
    """
    everyone = None if policy.target is None else _everyone(Reason.LOW_CONFIDENCE, NONE, rows)
    return Decision(policy.digest, policy.conditions_of(task), policy.truncated_to_people, threshold=everyone)


def _thresholds(
    policy: ScoringPolicy,
    target: AgreementTarget,
    tasks: Mapping[str, RowsUnderTest],
    rows: Mapping[str, int],
    looks: Mapping[str, int],
) -> dict[str, Threshold]:
    """Return the threshold of each task: its own, one that tasks with fewer rows share, or everything to people.

    A shared one may be wrong as often as its tasks' looks allow on average, weighted by their rows.

    Args:
        looks: How often each task's promise was tested, this time included.
    """
    thresholds, shared = {}, []
    for name, tested in tasks.items():
        if rows[name] < policy.rows.new:
            thresholds[name] = _everyone(Reason.NEW_TASK, NONE, rows[name])
        elif rows[name] >= policy.rows.own:
            wrong_at_look = _wrong(target, looks.get(name, 1))
            thresholds[name] = _threshold(target, tested, Threshold(_LOW, OWN, rows[name], 1.0), wrong_at_look)
        else:
            shared.append(name)
    if shared:
        empty = Threshold(_LOW, POOLED, sum(rows[name] for name in shared), 1.0, tasks=len(shared))
        wrong = [_wrong(target, looks.get(name, 1)) for name in shared]
        level = float(np.average(wrong, weights=[max(rows[name], 1) for name in shared]))
        together = _threshold(target, RowsUnderTest.joined([tasks[name] for name in shared]), empty, level)
        leasts = [together.least] * len(shared)
        if together.least is not None and target.human_share is None:
            leasts = choose_by_task([tasks[name] for name in shared], together.least, _promise(target))
        for name, least in zip(shared, leasts, strict=True):
            thresholds[name] = replace(together, least=least, share=tasks[name].share_below(least))
    return thresholds


def _threshold(target: AgreementTarget, rows: RowsUnderTest, empty: Threshold, wrong: float) -> Threshold:
    """Return the threshold of rows that share one; empty: what it is but for that; wrong: as for `_promise`."""
    if target.human_share is not None:
        share = target.human_share
        least = share_threshold(rows.confidence, rows.weight, share) if share < 1 else None
        return replace(empty, least=least, share=rows.share_below(least))
    if target.within_of_humans is not None and np.isnan(rows.worse).all():
        raise InputError(
            "within_of_humans needs rows with the levels of two humans (column `second`), and there are none"
        )
    least = choose(rows, _promise(target, wrong))
    return replace(
        empty,
        least=least,
        share=rows.share_below(least),
        **{name: getattr(target, name) for name in ("exact", "critical", "within_of_humans", "confidence")},
    )


def _wrong(target: AgreementTarget, look: int) -> float:
    """Return the chance that the k-th look may be wrong, (1 − confidence) · 6 / (π² k²): 1 − confidence for all k."""
    return (1 - target.confidence) * 6 / (math.pi * look) ** 2


def _promise(target: AgreementTarget, wrong: float | None = None) -> Promise:
    """Return what is tested. wrong: the chance that it finds a broken promise; by default that of a first look."""
    wrong = _wrong(target, 1) if wrong is None else wrong
    errors = None if target.exact is None else 1 - target.exact
    return Promise(errors, target.critical, 1 - wrong, target.within_of_humans)


def _expected(rows: LabelledScores, tested: RowsUnderTest, least: float | None) -> Expected | None:
    """Return what rows say of responses to come; None where a threshold leaves none of them to the machine."""
    kept = tested.take(np.flatnonzero(tested.confidence >= (2.0 if least is None else least)))
    if not len(kept):
        return None
    effective = effective_rows(kept, kept.correlation())[-1]
    shares = np.bincount(rows.level, rows.weights, rows.probabilities.shape[1]) / rows.weights.sum()
    error = float(np.average(1 - kept.confidence, weights=kept.weight))
    return Expected(error, int(effective), tuple(shares.tolist()))


def _everyone(reason: Reason, source: str, rows: int) -> Threshold:
    return Threshold(reason.value, source, rows, 1.0)


def _unusual(policy: ScoringPolicy, rows: LabelledScores) -> Unusual | None:
    if policy.unusual is None or rows.pooled is None or len(rows) < policy.rows.new:
        return None
    has_vector = ~np.isnan(rows.pooled[:, 0])
    return fit_unusual(rows.pooled[has_vector], rows.level[has_vector], policy.unusual.quantile)
