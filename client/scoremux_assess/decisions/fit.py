"""Labelled rows and a policy → the decision of each task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from scoremux_assess.decisions.apply import calibrated
from scoremux_assess.decisions.calibration.bounds import upper_bound
from scoremux_assess.decisions.calibration.labelled_scores import Floats, Ints, LabelledScores
from scoremux_assess.decisions.calibration.ranges import Growth, fit_ranges
from scoremux_assess.decisions.calibration.temperature import fit_temperatures, held_out_temperatures
from scoremux_assess.decisions.calibration.thresholds import Promise, choose, share_threshold
from scoremux_assess.decisions.calibration.unusual import fit_unusual
from scoremux_assess.decisions.decision import NONE, OWN, POOLED, Decision, Temperature, Threshold, Unusual
from scoremux_assess.decisions.policy import AgreementTarget, ScoringPolicy
from scoremux_client.contract import Reason
from scoremux_client.errors import InputError


def fit(policy: ScoringPolicy, tasks: Mapping[str, LabelledScores]) -> dict[str, Decision]:
    """Return the decision of each task.

    Raises:
        InputError: The policy compares with two humans, and the rows have one.
    """
    pooled, own = fit_temperatures(list(tasks.values()))
    # Thresholds and ranges are chosen with temperatures that the row's own label has no part in.
    held_out = dict(zip(tasks, held_out_temperatures(list(tasks.values())), strict=True))
    thresholds, ranges = {}, {}
    if policy.target is not None:
        thresholds = _thresholds(
            policy, policy.target, {n: Confidences.of(rows, held_out[n]) for n, rows in tasks.items()}
        )
    if policy.range_confidence is not None:
        growths = {name: Growth.of(rows, rows.calibrated(held_out[name])) for name, rows in tasks.items()}
        ranges = fit_ranges(growths, policy.rows.own, policy.range_confidence)
    return {
        name: Decision(
            policy.digest,
            policy.conditions_of(name),
            policy.truncated_to_people,
            Temperature(value if len(rows) else pooled, OWN if len(rows) else POOLED, len(rows)),
            thresholds.get(name),
            ranges.get(name),
            _unusual(policy, rows),
        )
        for (name, rows), value in zip(tasks.items(), own, strict=True)
    }


def decision_without_confidence(policy: ScoringPolicy, task: str, rows: int) -> Decision:
    """Return the decision of a task whose head gives no probabilities: a target sends all its rows to people.

    rows: how many labelled ones it has.
    """
    everyone = None if policy.target is None else _everyone(Reason.LOW_CONFIDENCE, NONE, rows)
    return Decision(policy.digest, policy.conditions_of(task), policy.truncated_to_people, threshold=everyone)


@dataclass(frozen=True)
class Confidences:
    """Labelled rows with what their probabilities say of errors, B rows of one or of several tasks.

    Attributes:
        confidence: Calibrated probability of the machine's level, float64 [B], the very bits that the scorer gives.
        severe: Calibrated probability that it is two levels off or more, float64 [B].
        distance: How far it is from the human's, int64 [B].
        second: How far a second human's is from the first's, float64 [B], NaN without a second.
    """

    confidence: Floats
    severe: Floats
    distance: Ints
    second: Floats

    def __len__(self) -> int:
        return len(self.confidence)

    @classmethod
    def of(cls, rows: LabelledScores, temperature: float | Floats) -> Confidences:
        """Compute them of one task's rows. temperature: of all rows, or of each."""
        each = np.broadcast_to(temperature, len(rows)).tolist()
        columns = zip(rows.probabilities.tolist(), rows.level.tolist(), each, strict=True)
        confidence = [calibrated(probabilities, value)[level] for probabilities, level, value in columns]
        shares = rows.calibrated(temperature)
        far = np.abs(np.arange(shares.shape[1])[None, :] - rows.level[:, None]) > 1
        second = np.full(len(rows), np.nan) if rows.second is None else np.abs(rows.second - rows.human)
        return cls(
            np.array(confidence, dtype=np.float32).astype(np.float64),
            np.asarray((shares * far).sum(axis=1)),
            rows.distance,
            second,
        )

    @classmethod
    def joined(cls, parts: list[Confidences]) -> Confidences:
        """Return the rows of all parts."""
        return cls(*(np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])))

    def share_below(self, least: float | None) -> float:
        """Return the share of rows that a threshold sends to people; None sends all."""
        if least is None or not len(self):
            return 1.0
        return round(float((self.confidence < least).mean()), 6)


def _thresholds(
    policy: ScoringPolicy, target: AgreementTarget, tasks: Mapping[str, Confidences]
) -> dict[str, Threshold]:
    """Return the threshold of each task: its own, one that tasks with fewer rows share, or everything to people."""
    thresholds, shared = {}, {}
    for name, rows in tasks.items():
        if len(rows) < policy.rows.new:
            thresholds[name] = _everyone(Reason.NEW_TASK, NONE, len(rows))
        elif len(rows) >= policy.rows.own:
            thresholds[name] = _threshold(target, rows, OWN)
        else:
            shared[name] = rows
    if shared:
        together = _threshold(target, Confidences.joined(list(shared.values())), POOLED)
        for name, rows in shared.items():
            thresholds[name] = replace(together, share=rows.share_below(together.least))
    return thresholds


def _threshold(target: AgreementTarget, rows: Confidences, source: str) -> Threshold:
    """Return the threshold of rows that share one."""
    if target.human_share is not None:
        least = share_threshold(rows.confidence, target.human_share) if target.human_share < 1 else None
        return Threshold(Reason.LOW_CONFIDENCE.value, source, len(rows), rows.share_below(least), least)
    promise = _promise(target, rows)
    least = choose(rows.confidence, rows.severe, rows.distance, promise)
    exact = None if promise.errors is None else 1 - promise.errors
    return Threshold(
        *(Reason.LOW_CONFIDENCE.value, source, len(rows), rows.share_below(least), least),
        *(exact, promise.critical, target.confidence),
    )


def _promise(target: AgreementTarget, rows: Confidences) -> Promise:
    if target.within_of_humans is None:
        errors = None if target.exact is None else 1 - target.exact
        return Promise(errors, target.critical, target.confidence)
    # Two humans' agreement is an estimate too: half of what may go wrong is its bound's, half the machine's.
    double = int((~np.isnan(rows.second)).sum())
    if not double:
        raise InputError(
            "within_of_humans needs rows with the levels of two humans (column `second`), and there are none"
        )
    half = (1 + target.confidence) / 2
    humans = upper_bound(int((rows.second == 0).sum()), double, half)
    return Promise(1 - max(0.0, humans - target.within_of_humans), target.critical, half)


def _everyone(reason: Reason, source: str, rows: int) -> Threshold:
    return Threshold(reason.value, source, rows, 1.0)


def _unusual(policy: ScoringPolicy, rows: LabelledScores) -> Unusual | None:
    if policy.unusual is None or rows.pooled is None or len(rows) < policy.rows.new:
        return None
    known = ~np.isnan(rows.pooled[:, 0])
    return fit_unusual(rows.pooled[known], rows.level[known], policy.unusual.quantile)
