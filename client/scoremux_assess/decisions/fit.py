"""Labelled rows and a policy → the decision of each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from scoremux_assess.decisions.calibration.bounds import upper_bound
from scoremux_assess.decisions.calibration.ranges import Growth, fit_ranges
from scoremux_assess.decisions.calibration.temperature import Rows, fit_temperatures, held_out_temperatures
from scoremux_assess.decisions.calibration.thresholds import Promise, choose, share_threshold
from scoremux_assess.decisions.calibration.unusual import fit_unusual
from scoremux_assess.decisions.conditions.rules import Conditions
from scoremux_assess.decisions.decision import NONE, OWN, POOLED, Decision, Temperature, Threshold, Unusual
from scoremux_assess.decisions.decision import calibrated as one_row
from scoremux_assess.decisions.policy import Policy, Target
from scoremux_client.contract import Reason
from scoremux_client.errors import InputError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Labelled:
    """The labelled rows of a task. second: levels of a second human, NaN where there is none, float64 [B].

    pooled: the vectors that the head read, float32 [B, H], where they are known. rows: those with probabilities.
    """

    rows: Rows
    second: Floats
    pooled: npt.NDArray[np.float32] | None = None


def fit(policy: Policy, tasks: Mapping[str, Labelled]) -> dict[str, Decision]:
    """Return the decision of each task.

    Raises:
        InputError: The policy compares with two humans, and the rows have one.
    """
    names = list(tasks)
    pooled, own = fit_temperatures([tasks[name].rows for name in names])
    decisions = {}
    for name, value in zip(names, own, strict=True):
        rows = len(tasks[name].rows)
        decisions[name] = replace(
            _plain(policy, name),
            temperature=Temperature(value if rows else pooled, OWN if rows else POOLED, rows),
            unusual=_unusual(policy, tasks[name]),
        )
    # Thresholds and ranges are chosen with temperatures that the row's own label has no part in.
    held_out = dict(zip(names, held_out_temperatures([tasks[name].rows for name in names]), strict=True))
    if policy.target is not None:
        thresholds = _thresholds(policy, policy.target, tasks, held_out)
        decisions = {name: replace(one, threshold=thresholds[name]) for name, one in decisions.items()}
    if policy.range_confidence is not None:
        growths = {name: Growth.of(one.rows, calibrated(one.rows, held_out[name])) for name, one in tasks.items()}
        ranges = fit_ranges(growths, policy.own_rows, policy.range_confidence)
        decisions = {name: replace(one, level_range=ranges[name]) for name, one in decisions.items()}
    return decisions


def unsure(policy: Policy, task: str, rows: int) -> Decision:
    """Return the decision of a task without probabilities: none of its levels has a confidence, so people see all."""
    everyone = None if policy.target is None else _everyone(Reason.LOW_CONFIDENCE, NONE, rows)
    return replace(_plain(policy, task), threshold=everyone)


def confidences(rows: Rows, temperature: float | Floats) -> Floats:
    """Return the confidence of each row, float64 [B], the very bits that the scorer gives it.

    temperature: of all rows, or of each.
    """
    each = np.broadcast_to(temperature, len(rows)).tolist()
    given = zip(rows.probabilities.tolist(), rows.level.tolist(), each, strict=True)
    sure = [one_row(own, value)[level] for own, level, value in given]
    return np.array(sure, dtype=np.float32).astype(np.float64)


def calibrated(rows: Rows, temperature: float | Floats) -> Floats:
    """Return the calibrated probabilities of rows, float64 [B, L]: what the scorer computes, but for last bits."""
    scaled = rows.probabilities ** (1 / np.broadcast_to(temperature, len(rows)))[:, None]
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))


def severe_chances(rows: Rows, temperature: float | Floats) -> Floats:
    """Return the calibrated probability that each row's level is two off or more, float64 [B]."""
    shares = calibrated(rows, temperature)
    apart = np.abs(np.arange(shares.shape[1])[None, :] - rows.level[:, None])
    return np.asarray((shares * (apart > 1)).sum(axis=1))


def _thresholds(
    policy: Policy, target: Target, tasks: Mapping[str, Labelled], held_out: Mapping[str, Floats]
) -> dict[str, Threshold]:
    """Return the threshold of each task; held_out: temperatures of its rows."""
    found, together = {}, []
    sure = {name: confidences(one.rows, held_out[name]) for name, one in tasks.items()}
    severe = {name: severe_chances(one.rows, held_out[name]) for name, one in tasks.items()}
    for name, labelled in tasks.items():
        if len(labelled.rows) < policy.new_rows:
            found[name] = _everyone(Reason.NEW_TASK, NONE, len(labelled.rows))
        elif len(labelled.rows) >= policy.own_rows:
            found[name] = _threshold(target, [labelled], [sure[name]], [severe[name]], OWN)
        else:
            together.append(name)
    if together:
        columns = [sure[name] for name in together], [severe[name] for name in together]
        shared = _threshold(target, [tasks[name] for name in together], *columns, POOLED)
        found.update({name: replace(shared, share=_share(sure[name], shared.least)) for name in together})
    return found


def _threshold(
    target: Target, tasks: Sequence[Labelled], sure: Sequence[Floats], severe: Sequence[Floats], source: str
) -> Threshold:
    """Return the threshold of tasks that share one; sure, severe: of their rows, as `choose` takes them."""
    every = np.concatenate(list(sure))
    if target.human_share == 1:
        return _everyone(Reason.LOW_CONFIDENCE, source, len(every))
    if target.human_share is not None:
        least = share_threshold(every, target.human_share)
        return Threshold(least, Reason.LOW_CONFIDENCE.value, source, len(every), _share(every, least))
    promise = _promise(target, tasks)
    apart = np.concatenate([np.abs(one.rows.level - one.rows.human) for one in tasks])
    chosen = choose(every, np.concatenate(list(severe)), apart, promise)
    if chosen is None:
        made = _everyone(Reason.LOW_CONFIDENCE, source, len(every))
    else:
        made = Threshold(chosen, Reason.LOW_CONFIDENCE.value, source, len(every), _share(every, chosen))
    exact = None if promise.errors is None else 1 - promise.errors
    return replace(made, exact=exact, critical=promise.critical, confidence=target.confidence)


def _promise(target: Target, tasks: Sequence[Labelled]) -> Promise:
    if target.within_of_humans is None:
        errors = None if target.exact is None else 1 - target.exact
        return Promise(errors, target.critical, target.confidence)
    # Two humans' agreement is an estimate too: half of what may go wrong is its bound's, half the machine's.
    both = [(one.rows.human, one.second) for one in tasks]
    same = sum(int((human == second).sum()) for human, second in both)
    rows = sum(int((~np.isnan(second)).sum()) for _, second in both)
    if not rows:
        raise InputError(
            "within_of_humans needs rows with the levels of two humans (column `second`), and there are none"
        )
    half = (1 + target.confidence) / 2
    humans = upper_bound(same, rows, half)
    return Promise(1 - max(0.0, humans - target.within_of_humans), target.critical, half)


def _plain(policy: Policy, task: str) -> Decision:
    conditions = conditions_of(policy, task)
    return Decision(policy.digest, conditions, truncated=policy.truncated, read_behind=policy.read_behind)


def _everyone(reason: Reason, source: str, rows: int) -> Threshold:
    return Threshold(None, reason.value, source, rows, 1.0)


def _share(sure: Floats, least: float | None) -> float:
    if least is None or not len(sure):
        return 1.0
    return round(float((sure < least).mean()), 6)


def conditions_of(policy: Policy, task: str) -> Conditions:
    """Return the rules for a task: the policy's, with the languages that it names for the task."""
    rule = policy.conditions.rules.get("language")
    if rule is None or task not in policy.languages:
        return policy.conditions
    own = replace(rule, languages=tuple(policy.languages[task]))
    return Conditions({name: own if name == "language" else one for name, one in policy.conditions.rules.items()})


def _unusual(policy: Policy, labelled: Labelled) -> Unusual | None:
    if policy.unusual is None or labelled.pooled is None or len(labelled.rows) < policy.new_rows:
        return None
    known = ~np.isnan(labelled.pooled[:, 0])
    return fit_unusual(labelled.pooled[known], labelled.rows.level[known], policy.unusual)
