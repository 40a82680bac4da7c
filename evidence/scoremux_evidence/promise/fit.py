"""Labelled rows and a policy → the decision of each task."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from scoremux_client.contract import Reason
from scoremux_decide.decision import NONE, OWN, Decision, Expected, Unusual
from scoremux_decide.policy import ScoringPolicy
from scoremux_evidence.promise.item_total import ItemTotal
from scoremux_evidence.promise.ranges import Growth, fit_ranges
from scoremux_evidence.promise.task_thresholds import everyone, thresholds_of
from scoremux_evidence.promise.temperature import Change, at_temperature, temperatures_of
from scoremux_evidence.promise.thresholds import (
    correlation,
    effective_rows,
    of_same_responses,
    order_of,
    under_test,
)
from scoremux_evidence.promise.unusual import fit_unusual
from scoremux_evidence.rows.table import Rows

_ONE_LEVEL = 0.95
"""The share of rows with one level of the machine from which on the level says nothing about a response."""

Tasks = Mapping[str, Rows]


@dataclass(frozen=True)
class Fitted:
    """Decisions of tasks, and which of them have no temperature or threshold of their rows.

    Attributes:
        worse: Tasks that keep a temperature of 1, as a fitted one made their confidences worse on held-out rows, with
            the change of their Brier score and its 95 % interval.
        one_level: Tasks without a threshold, as the machine gives one level to this share of their rows.
    """

    decisions: dict[str, Decision]
    worse: dict[str, Change]
    one_level: dict[str, float]


def fit(
    policy: ScoringPolicy,
    tasks: Tasks,
    looks: Mapping[str, int] | None = None,
    failing: Collection[str] = (),
    items: Mapping[str, Collection[str]] = MappingProxyType({}),
    totals: Mapping[str, ItemTotal] = MappingProxyType({}),
) -> Fitted:
    """Return the decision of each task, and of each trait of an item.

    Args:
        items: The traits of each item, as tasks. Traits have one threshold, on the least confidence of a response; none
            where a trait has no rows.
        totals: Of the items that have one.
        looks: How often each task's promise was tested, this time included; by default it is the first time for all.
        failing: Tasks that go to people for their verdict.

    Raises:
        InputError: See `thresholds_of`.
    """
    temperatures, held_out, worse = temperatures_of(tasks)
    with_one_level = dict(_one_level(policy, tasks))
    to_people = {*with_one_level, *failing}
    # One route for all traits of a response: people get them all where they get one.
    unsure = (traits for traits in items.values() if to_people & {*traits} or {*traits} - {*tasks})
    to_people |= {name for traits in unsure for name in traits if name in tasks}
    item_of = {name: item for item, traits in items.items() for name in traits}
    tested = {}
    thresholds = {name: everyone(Reason.LOW_CONFIDENCE, OWN, len(tasks[name])) for name in to_people}
    if policy.target is not None:
        tested = {n: under_test(rows, held_out[n]) for n, rows in tasks.items() if n not in to_people}
        traits = {item: names for item, of in items.items() if (names := [name for name in of if name in tested])}
        of_totals = {}
        for item, names in traits.items():
            tested |= zip(names, of_same_responses([tested[name] for name in names]), strict=True)
            if policy.target.total and item in totals:
                within, same = policy.target.total.within, tested[names[0]]
                of_totals[names[0]] = totals[item].under_test(tasks, held_out, same, within)
        together = [*traits.values(), *([name] for name in tested if name not in item_of)]
        thresholds |= thresholds_of(policy, policy.target, tasks, tested, looks or {}, together, of_totals)
    ranges = {}
    if policy.range_confidence is not None:
        growths = {name: Growth.of(rows, at_temperature(rows, held_out[name])) for name, rows in tasks.items()}
        ranges = fit_ranges(growths, policy.rows.own, policy.range_confidence)
    decisions = {
        name: Decision(
            policy=policy.digest,
            conditions=policy.conditions_of(item_of.get(name, name)),
            truncated=policy.truncated_to_people,
            temperature=temperatures[name],
            threshold=thresholds.get(name),
            level_range=ranges.get(name),
            unusual=_unusual(policy, rows),
            expected=_expected(rows, tested[name], thresholds[name].least) if name in tested else None,
        )
        for name, rows in tasks.items()
    }
    return Fitted(decisions, worse, with_one_level)


def _one_level(policy: ScoringPolicy, tasks: Tasks) -> Iterator[tuple[str, float]]:
    """Yield tasks that have no threshold, as the machine gives one level to this share of their rows."""
    target = policy.target
    if target is None or target.one_level == "keep" or target.human_share is not None:
        return
    for name, rows in tasks.items():
        if len(rows) < max(1, policy.rows.new):
            continue
        share = float(np.bincount(rows.machine, rows.weight).max() / rows.weight.sum())
        if share >= _ONE_LEVEL:
            yield name, share


def decision_without_confidence(policy: ScoringPolicy, task: str, rows: int) -> Decision:
    """Return the decision of a task whose head gives no probabilities: a target sends all its rows to people.

    rows: how many labelled ones it has.
    """
    threshold = None if policy.target is None else everyone(Reason.LOW_CONFIDENCE, NONE, rows)
    return Decision(policy.digest, policy.conditions_of(task), policy.truncated_to_people, threshold=threshold)


def _expected(rows: Rows, tested: Rows, least: float | None) -> Expected | None:
    """Return the expected error and levels of responses to come; None where a threshold leaves none to the machine."""
    if least is None:
        return None
    kept = tested.where(order_of(tested) >= least)
    if not len(kept):
        return None
    effective = effective_rows(kept, correlation(kept))[-1]
    shares = np.bincount(rows.machine, rows.weight, rows.probabilities.shape[1]) / rows.weight.sum()
    error = float(np.average(1 - kept.confidence, weights=kept.weight))
    return Expected(error, int(effective), tuple(shares.tolist()))


def _unusual(policy: ScoringPolicy, rows: Rows) -> Unusual | None:
    if policy.unusual is None or "pooled" not in rows or len(rows) < policy.rows.new:
        return None
    has_vector = ~np.isnan(rows.pooled[:, 0])
    return fit_unusual(rows.pooled[has_vector], rows.machine[has_vector], policy.unusual.quantile)
