"""Temperatures, bounds and thresholds, and the decisions that a policy makes of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import beta, norm

from making import ROOT
from raters import GOOD_AND_BAD, labelled_scores, replicate
from scoremux_client.errors import InputError
from scoremux_decide.apply import calibrated, distance, range_around
from scoremux_decide.bounds import upper_bound
from scoremux_decide.decision import Decision, LevelRange, Threshold
from scoremux_decide.policy import ScoringPolicy, read_policy
from scoremux_decide.total import Total
from scoremux_evidence.promise import fit as fitting
from scoremux_evidence.promise.ranges import Growth, reach
from scoremux_evidence.promise.temperature import (
    at_temperature,
    changes_of_brier,
    fit_temperatures,
    held_out_temperatures,
)
from scoremux_evidence.promise.thresholds import (
    Promise,
    choose,
    correlation,
    effective_rows,
    of_same_responses,
    under_test,
)
from scoremux_evidence.promise.unusual import fit_unusual
from scoremux_evidence.rows.table import Rows


def draw_rows(count: int, seed: int, temperature: float = 2.0, levels: int = 4, doubt: float = 0.5) -> Rows:
    """Return rows whose probabilities are too bold: to the power of 1/temperature they are true.

    doubt: the greater, the nearer the true probabilities are to each other.
    """
    random = np.random.default_rng(seed)
    true = random.dirichlet(np.full(levels, doubt), count)
    human = (true.cumsum(axis=1) < random.random((count, 1))).sum(axis=1).clip(max=levels - 1)
    bold = np.maximum(true, 1e-6) ** temperature
    bold /= bold.sum(axis=1, keepdims=True)
    return labelled_scores(bold.astype(np.float32).astype(np.float64), bold.argmax(axis=1), human)


def fit(*values: Any) -> dict[str, Decision]:
    """Return the decisions alone of what `fit` finds."""
    return fitting.fit(*values).decisions


def covers(growth: Growth, level_range: LevelRange) -> npt.NDArray[np.bool_]:
    """Return whether each row's range holds the human's level."""
    reach = np.array([level_range.reach_of(level) for level in growth.level])
    return np.asarray((growth.needed <= reach) | (reach >= 1))


def threshold_of(target: dict[str, float], rows: Rows) -> Threshold:
    threshold = fit(ScoringPolicy.model_validate({"target": target}), {"t": rows})["t"].threshold
    assert threshold is not None
    return threshold


@pytest.mark.parametrize(("errors", "rows"), [(0, 1), (0, 22), (1, 30), (7, 50), (50, 50), (120, 1000)])
def test_bounds_are_those_of_the_beta_distribution(errors: int, rows: int) -> None:
    expected = 1.0 if errors == rows else beta.ppf(0.9, errors + 1, rows - errors)
    assert upper_bound(errors, rows, 0.9) == pytest.approx(expected, abs=1e-9)


def test_temperatures_undo_boldness_and_give_the_confidence_of_the_scorer() -> None:
    pooled, own = fit_temperatures([draw_rows(3000, 1), draw_rows(3000, 2, 0.8), draw_rows(4, 3, 5.0), draw_rows(0, 4)])
    assert own[:2] == pytest.approx([2.0, 0.8], rel=0.1)
    assert abs(np.log(own[2] / pooled)) < 0.35
    assert own[3] == pooled
    rows = draw_rows(50, 5)
    expected = at_temperature(rows, 1.7)[np.arange(50), rows.machine]
    np.testing.assert_allclose(under_test(rows, 1.7).confidence, expected, rtol=1e-6)
    assert calibrated([0.0, 1.0, 0.0], 0.05) == [0.0, 1.0, 0.0]


def test_calibration_that_fits_held_out_rows_worse_is_found() -> None:
    """One small task is timid among many that are bold: the pooled temperature makes it worse."""
    bold = [draw_rows(2000, seed, 3.0) for seed in range(4)]
    tasks = {str(place): rows for place, rows in enumerate([*bold, draw_rows(60, 9, 0.45)])}
    held_out = dict(zip(tasks, held_out_temperatures([*tasks.values()]), strict=True))
    *changes, last = changes_of_brier(tasks, held_out).values()
    assert all(high < 0 for _, _, high in changes)
    assert last[0] > 0


def test_threshold_breaks_its_promise_as_rarely_as_it_says() -> None:
    promise, rest = Promise(0.25, 0.2, 0.9), under_test(draw_rows(4000, 9999, 1.0), 1.0)
    broken = chosen = 0
    for seed in range(200):
        rows = under_test(draw_rows(150, seed, 1.0), 1.0)
        threshold = choose(rows, promise)
        if threshold is not None:
            chosen += 1
            kept = rest.where(threshold <= rest.confidence)
            broken += kept.errors.mean() > 0.25 or kept.critical.mean() > 0.2
    assert chosen > 20
    assert broken <= 0.1 * 200


def test_one_cut_is_taken_for_traits_where_each_keeps_the_promise() -> None:
    promise, rows = Promise(0.25, None, 0.9), under_test(draw_rows(400, 1, 1.0), 1.0)
    worse = rows.plus(errors=np.maximum(rows.errors, np.arange(400) % 5 == 0))
    alone = choose(rows, promise)
    for other in (worse, rows.plus(errors=np.ones(400)), rows):
        one, two = of_same_responses([rows, other])
        least = choose(one, promise, two)
        expected = choose(other, promise)
        assert least == (None if expected is None or alone is None else max(alone, expected))


def test_total_of_kept_responses_is_as_near_to_a_persons_as_promised() -> None:
    tasks = {f"e.{name}": draw_rows(400, seed, 1.0, doubt=0.15) for seed, name in enumerate("ab")}
    tasks = {name: rows.plus(text=np.arange(400)) for name, rows in tasks.items()}
    rule, points = Total(weights={"a": 1, "b": 2}), (0.0, 1.0, 1.5, 4.0)
    totals = {"e": fitting.ItemTotal(rule, dict.fromkeys(tasks, points))}
    gap = sum(
        w * (np.take(points, r.machine) - np.take(points, r.human)) for w, r in zip((1, 2), tasks.values(), strict=True)
    )
    policy = {"target": {"total": {"within": 2.0, "share": 0.85}}}
    fitted = fit(ScoringPolicy.model_validate(policy), tasks, None, (), {"e": [*tasks]}, totals)
    kept = np.ones(400, bool)
    for name, rows in tasks.items():
        threshold, temperature = fitted[name].threshold, fitted[name].temperature
        assert threshold and threshold.least and temperature
        assert (threshold.total_share, threshold.total_within, threshold.exact) == (0.85, 2.0, None)
        kept &= at_temperature(rows, temperature.value)[np.arange(400), rows.machine] >= threshold.least
    assert 100 < kept.sum() < 400
    assert (np.abs(gap) <= 2).mean() < 0.85 < (np.abs(gap) <= 2)[kept].mean()
    stricter = {"target": {**policy["target"], "exact": 0.8}}
    both = fit(ScoringPolicy.model_validate(stricter), tasks, None, (), {"e": [*tasks]}, totals)["e.a"].threshold
    alone = fit(ScoringPolicy.model_validate({"target": {"exact": 0.8}}), tasks, None, (), {"e": [*tasks]})[
        "e.a"
    ].threshold
    assert both and alone and threshold and both.least == max(alone.least or 1, threshold.least or 1)
    # A trait without a row with probabilities: people get the item.
    one = fit(ScoringPolicy.model_validate(policy), {"e.a": tasks["e.a"]}, None, (), {"e": [*tasks]}, totals)["e.a"]
    assert one.threshold and one.threshold.least is None
    with pytest.raises(InputError, match="t has no total"):
        fit(ScoringPolicy.model_validate(policy), {"t": tasks["e.a"]})


def draw_essays(count: int, seed: int, halo: float = 0.3) -> dict[str, Rows]:
    """Return rows of three traits of an item, r 0.7; halo: the share of a reader's error that is in all traits."""
    random = np.random.default_rng(seed)

    def noise(shared: float) -> npt.NDArray[np.float64]:
        return np.sqrt(shared) * random.normal(size=(1, count)) + np.sqrt(1 - shared) * random.normal(size=(3, count))

    true, cuts = noise(0.7), np.array([-1.2, -0.4, 0.4, 1.2])
    doubt = 0.35 * np.exp(0.9 * random.normal(size=count))
    machine, human = true + doubt * noise(halo), np.searchsorted(cuts, true + 0.35 * noise(0.2))
    spread = np.sqrt(doubt**2 / (1 + doubt**2) + 0.35**2)
    below = norm.cdf((cuts - (machine / (1 + doubt**2))[..., None]) / spread[:, None])
    shares = np.maximum(np.diff(below, prepend=0, append=1, axis=-1), 1e-6) ** 1.6
    shares = (shares / shares.sum(axis=-1, keepdims=True)).astype(np.float32).astype(np.float64)
    number = {"text": np.arange(count), "student": np.arange(count)}
    both = enumerate(zip(shares, human, strict=True))
    return {f"e.{k}": labelled_scores(of, of.argmax(axis=1), levels, **number) for k, (of, levels) in both}


@pytest.mark.nightly
def test_promise_on_totals_is_broken_in_ten_percent_of_calibrations_at_most() -> None:
    tasks = draw_essays(40_000, 10**6)
    totals = {"e": fitting.ItemTotal(Total(sum=("0", "1", "2")), dict.fromkeys(tasks, (0.0, 1.0, 2.0, 3.0, 4.0)))}
    near = np.abs(sum(rows.machine - rows.human for rows in tasks.values())) <= 1
    share = round(float(near.mean()) + 0.06, 3)
    policy = ScoringPolicy.model_validate({"target": {"total": {"within": 1.0, "share": share}}})
    found = broken = 0
    for seed in range(120):
        decisions = fit(policy, draw_essays(300, seed), None, (), {"e": [*tasks]}, totals)
        threshold = decisions["e.0"].threshold
        if threshold and threshold.least is not None:
            values = {name: decision.temperature.value for name, decision in decisions.items() if decision.temperature}
            sure = [at_temperature(rows, values[name]).max(axis=1) for name, rows in tasks.items()]
            found, broken = found + 1, broken + bool(near[np.min(sure, axis=0) >= threshold.least].mean() < share)
    assert found > 40
    assert broken <= 0.1 * 120


@pytest.mark.parametrize("by_level", [None, (0.2, 1.0, 0.9, 0.6), (0.5,)])
@pytest.mark.parametrize("number", [0.0, 0.5, 0.83, 0.999, 1.0])
def test_ranges_of_calibration_are_those_of_the_scorer(number: float, by_level: tuple[float, ...] | None) -> None:
    rows = draw_rows(300, 12)
    shares = [calibrated(probabilities, 1.7) for probabilities in rows.probabilities.tolist()]
    growth, level_range = Growth.of(rows, np.array(shares)), LevelRange(number, 0.9, "own", 300, 1.0, by_level)
    ranges = [range_around(level, share, level_range) for level, share in zip(rows.machine, shares, strict=True)]
    inside = [low <= human <= high for (low, high), human in zip(ranges, rows.human, strict=True)]
    assert inside == covers(growth, level_range).tolist()
    assert growth.widths(level_range).tolist() == [high - low + 1 for low, high in ranges]


def test_ranges_hold_the_human_level_as_often_as_they_say_and_with_few_rows_are_all_levels() -> None:
    policy, inside, widths = ScoringPolicy.model_validate({"range": {}, "rows": {"own": 50}}), [], []
    for seed in range(120):
        rows, later = draw_rows(60, seed, 1.0), draw_rows(200, 1000 + seed, 1.0)
        decision = fit(policy, {"t": rows})["t"]
        assert decision.temperature and decision.level_range
        growth = Growth.of(later, at_temperature(later, decision.temperature.value))
        inside.append([covers(growth, decision.level_range)[later.machine == level].mean() for level in range(4)])
        widths.append(growth.widths(decision.level_range).mean())
    assert (np.mean(inside, axis=0) >= 0.89).all() and np.mean(inside) <= 0.96
    assert np.mean(widths) < 2.8  # of four levels
    assert [reach(rows, rows, 0.9) for rows in ((np.zeros(n), np.ones(n)) for n in (8, 9))] == [1.0, 0.0]


def test_tasks_with_few_rows_share_a_range_of_the_targets_confidence(
    tmp_path: Path,
) -> None:
    tasks = {"own": draw_rows(300, 1), "a": draw_rows(20, 2), "b": draw_rows(90, 3)}
    (tmp_path / "policy.toml").write_text("[target]\nexact = 0.7\nconfidence = 0.8\n")
    ranges = {name: d.level_range for name, d in fit(read_policy(tmp_path / "policy.toml"), tasks).items()}
    assert {name: (r.source, r.rows, r.confidence) for name, r in ranges.items() if r} == {
        "own": ("own", 300, 0.8), "a": ("pooled", 20, 0.8), "b": ("pooled", 90, 0.8),
    }  # fmt: skip
    (tmp_path / "policy.toml").write_text("[range]\nconfidence = 0.95\n")
    assert read_policy(tmp_path / "policy.toml").range_confidence == 0.95
    (tmp_path / "policy.toml").write_text("[rows]\nown = 9\n")
    assert fit(read_policy(tmp_path / "policy.toml"), {"t": tasks["a"]})["t"].level_range is None


def test_ranges_of_a_hard_task_with_few_rows_hold_among_easy_tasks() -> None:
    policy, inside, widths = ScoringPolicy.model_validate({"range": {}, "rows": {"own": 100}}), [], []
    later = draw_rows(4000, 9999, 1.0, doubt=1.0)
    for seed in range(40):
        tasks = {f"easy {n}": draw_rows(60, 10 * seed + n, 1.0, doubt=0.1) for n in range(8)}
        decision = fit(policy, {**tasks, "hard": draw_rows(60, 10 * seed + 9, 1.0, doubt=1.0)})["hard"]
        assert decision.temperature and decision.level_range
        growth = Growth.of(later, at_temperature(later, decision.temperature.value))
        held = covers(growth, decision.level_range)
        inside.append([held[later.machine == level].mean() for level in range(4)])
        widths.append(growth.widths(decision.level_range).mean())
    assert (np.mean(inside, axis=0) >= 0.89).all()
    assert np.mean(widths) < 3.2  # of four levels


def test_tasks_get_thresholds_of_their_own_a_pooled_one_or_none_by_their_rows() -> None:
    """A trait that is the only tested one of its item is no task, and has no part in a pooled threshold."""
    tasks = {"own": draw_rows(300, 1), "a": draw_rows(80, 2), "b": draw_rows(90, 3), "new": draw_rows(10, 4)}
    tasks["e.trait"] = draw_rows(80, 5)
    policy = ScoringPolicy.model_validate({"target": {"exact": 0.7}})
    thresholds = {n: d.threshold for n, d in fit(policy, tasks, None, (), {"e": ["e.trait"]}).items()}
    assert {name: threshold.source for name, threshold in thresholds.items() if threshold} == {
        "own": "own", "a": "pooled", "b": "pooled", "new": "none", "e.trait": "none",
    }  # fmt: skip
    assert thresholds["own"] and thresholds["a"] and thresholds["b"] and thresholds["new"]
    assert (thresholds["a"].rows, thresholds["a"].tasks, thresholds["own"].tasks) == (170, 2, 1)
    assert (thresholds["new"].reason, thresholds["new"].share) == ("NEW_TASK", 1.0)


def test_a_task_of_one_level_or_an_unreachable_target_has_no_threshold() -> None:
    threshold = threshold_of({"exact": 0.999}, draw_rows(200, 6))
    assert (threshold.least, threshold.reason, threshold.share) == (None, "LOW_CONFIDENCE", 1.0)
    # The machine gives everybody one level, which is right in nine of ten: a threshold would keep all of its rows.
    alike = labelled_scores(np.tile([0.88, 0.12], (90, 1)), np.zeros(90, np.int64), (np.arange(90) % 10 == 0) * 1)
    tasks = {"alike": alike, "a": draw_rows(90, 2), "b": draw_rows(90, 3)}
    target = {"exact": 0.75}
    people, keep = (
        {n: d.threshold for n, d in fit(ScoringPolicy.model_validate({"target": target | more}), tasks).items()}
        for more in ({}, {"one_level": "keep"})
    )
    assert people["alike"] and (people["alike"].least, people["alike"].share) == (None, 1.0)
    assert people["a"] and people["a"].tasks == 2
    assert keep["alike"] and keep["alike"].least is not None and keep["alike"].tasks == 3
    assert fitting.fit(ScoringPolicy.model_validate({"target": target}), tasks).one_level == {"alike": 1.0}


@pytest.mark.parametrize("target", [{"exact": 0.0}, {"exact": 1.0, "critical": 0.0, "confidence": 0.9999}])
def test_odd_tasks_get_decisions_that_can_be_read(target: dict[str, float]) -> None:
    def rows(probabilities: list[float], human: int, count: int = 200) -> Rows:
        column = np.tile(probabilities, (count, 1))
        return labelled_scores(column, column.argmax(axis=1), np.full(count, human))

    tasks = {
        "one level": rows([1.0], 0), "one row": rows([0.4, 0.6], 0, 1), "no row": rows([0.4, 0.6], 0, 0),
        "all right": rows([0.4, 0.6], 1), "all wrong": rows([0.4, 0.6], 0), "certain and wrong": rows([0.0, 1.0], 0),
    }  # fmt: skip
    policy = {"target": target, "range": {"confidence": 0.9999}, "rows": {"own": 1, "new": 0}}
    policy |= {"unusual": {"quantile": 1.0}}
    for decision in fit(ScoringPolicy.model_validate(policy), tasks).values():
        assert Decision.parse(decision.to_json(), "decision.json") == decision


def test_agreement_within_that_of_humans_needs_two_humans() -> None:
    rows = draw_rows(300, 8)
    with pytest.raises(InputError, match="levels of two humans"):
        threshold_of({"within_of_humans": 0.3}, rows)
    # The second human is as often wrong as the machine, or never.
    as_good = rows.plus(second=rows.machine.astype(float))
    assert threshold_of({"within_of_humans": 0.1}, as_good).share == 0
    perfect = rows.plus(second=rows.human.astype(float))
    assert threshold_of({"within_of_humans": 0.02}, perfect).share > 0.9


def test_promise_of_a_true_error_of_a_tenth_is_found_in_58_percent_of_draws_of_100_rows() -> None:
    chosen = 0
    for seed in range(400):
        human = (np.random.default_rng(seed).random(100) < 0.1).astype(np.int64)
        rows = labelled_scores(np.tile([0.9, 0.1], (100, 1)), np.zeros(100, np.int64), human)
        chosen += choose(under_test(rows, 1.0), Promise(0.15, None, 0.9)) is not None
    assert chosen / 400 == pytest.approx(0.583, abs=0.07)


def test_equal_texts_count_once_and_rows_of_one_student_tell_less_the_more_alike_they_are() -> None:
    rows = draw_rows(60, 3, 1.0)
    copies = rows.where(np.repeat(np.arange(60), 5)).plus(text=np.repeat(np.arange(60), 5))
    once, tested = under_test(rows, 1.0), under_test(copies, 1.0)
    assert len(tested) == 60
    assert tested.errors.tolist() == once.errors.tolist()
    assert choose(tested, Promise(0.3, None, 0.9)) == choose(once, Promise(0.3, None, 0.9))
    student = np.repeat(np.arange(50), 4)
    certain = labelled_scores(np.tile([0.6, 0.4], (200, 1)), np.zeros(200, np.int64), student % 2, student=student)
    alike = under_test(certain, 1.0)
    assert correlation(alike) > 0.9
    assert effective_rows(alike, 1.0)[-1] == pytest.approx(50)
    assert effective_rows(alike, 0.0)[-1] == pytest.approx(200)
    independent = alike.plus(errors=np.random.default_rng(0).random(200) < 0.4)
    assert correlation(independent) < 0.3
    weighted = alike.plus(weight=np.repeat([1.0, 9.0], 100), student=np.full(200, -1))
    assert effective_rows(weighted, 0.5)[-1] == pytest.approx(1000**2 / 8200)


def test_temperatures_of_rows_are_fitted_without_their_student_and_equal_texts() -> None:
    rows = draw_rows(40, 1)
    folds = held_out_temperatures([rows.plus(student=np.arange(40) // 4, text=np.arange(40) % 37)])[0]
    assert all(len(set(folds[students])) == 1 for students in np.arange(40).reshape(10, 4))
    assert (folds[0], folds[1], folds[2]) == (folds[37], folds[38], folds[39])


def test_weights_lead_a_threshold_from_a_desks_rows_to_that_of_all_rows() -> None:
    """Routed rows are all read, a tenth of the machine's: with weights the share for people is that of all rows."""
    everything, policy = draw_rows(6000, 2, 1.0), ScoringPolicy.model_validate({"target": {"exact": 0.7}})
    confidence = under_test(everything, 1.0).confidence
    chance = np.where(confidence < 0.7, 1.0, 0.1)
    picked = np.random.default_rng(1).random(6000) < chance
    desk = everything.where(picked)
    plain, weighted = (fit(policy, {"t": rows})["t"].threshold for rows in (desk, desk.plus(weight=1 / chance[picked])))
    expected = fit(policy, {"t": everything})["t"].threshold
    assert plain and weighted and expected
    assert weighted.share == pytest.approx(expected.share, abs=0.1)
    assert plain.share > expected.share + 0.2


def test_shared_threshold_is_not_for_a_task_that_its_own_rows_or_peoples_agreement_contradict() -> None:
    good = {f"good {n}": draw_rows(80, n, 1.0) for n in range(8)}
    bad = draw_rows(80, 99, 1.0)
    bad = bad.plus(human=(bad.machine + 1) % 4)
    policy = ScoringPolicy.model_validate({"target": {"exact": 0.6}, "rows": {"own": 1000}})
    decisions = fit(policy, {**good, "bad": bad})
    thresholds = {name: decision.threshold for name, decision in decisions.items()}
    assert thresholds["bad"] and thresholds["bad"].least is None
    assert sum(threshold is not None and threshold.least is not None for threshold in thresholds.values()) >= 6
    # The machine is right in 0.5 of the bad task's rows, two humans agree in 0.88. tests/slow has the whole proof.
    outcome = replicate(GOOD_AND_BAD, 60, range(4), later=2000)
    assert outcome.kept["bad"] <= 0.05 and outcome.broken <= 0.07
    assert np.mean([share for name, share in outcome.kept.items() if name != "bad"]) > 0.8


def test_one_task_at_its_twelfth_look_leaves_the_others_theirs() -> None:
    """20 tasks of 60 rows share a threshold, which the largest look of all once decided."""
    policy, kept = ScoringPolicy.model_validate({"target": {"exact": 0.85}}), {1: 0.0, 12: 0.0}
    for seed in range(10):
        tasks = {f"t-{n}": draw_rows(60, 100 * seed + n, 1.0, 2, 1.0) for n in range(20)}
        for look in kept:
            decisions = fit(policy, tasks, {"t-0": look})
            shares = [1 - d.threshold.share for d in decisions.values() if d.threshold][1:]
            kept[look] += sum(shares) / 190
    assert kept[1] > 0.2 and kept[12] > 0.97 * kept[1]
    assert 1 - fit(policy, tasks, dict.fromkeys(tasks, 12))["t-1"].threshold.share < kept[1]  # type: ignore[union-attr]


def test_what_is_unlike_all_levels_centres_is_unusual() -> None:
    random = np.random.default_rng(0)
    level = np.repeat([0, 1], 100)
    vectors = (random.normal(size=(200, 16)) + level[:, None] * 3).astype(np.float32)
    unusual = fit_unusual(vectors, level, 0.95)
    assert unusual is not None
    assert unusual.centres.shape == (2, 16)
    distances = np.array([distance(unusual, vector) for vector in vectors])
    assert 0.93 <= (distances <= unusual.limit).mean() <= 1.0
    assert distance(unusual, np.full(16, 9, np.float32)) > unusual.limit


def test_decisions_survive_their_file() -> None:
    example = read_policy(ROOT / "examples" / "policy.toml")
    rows, pooled = draw_rows(120, 9), np.random.default_rng(1).normal(size=(120, 8)).astype(np.float32)
    decision = fit(example, {"t": labelled_scores(rows.probabilities, rows.machine, rows.human, pooled=pooled)})["t"]
    again = Decision.parse(decision.to_json(), "decision.json")
    assert again.to_json() == decision.to_json() and again.conditions == example.conditions
    assert (again.policy, again.unusual is None, len(again.conditions.rules)) == (example.digest, False, 10)


UNUSUAL = {"limit": 1, "quantile": 1, "rows": 1, "centres": [[1]], "weights": [1]}
TEMPERATURE = {"value": 1, "source": "own", "rows": 1}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"policy": None}, "policy: Field required"),
        ({"extra": 1}, "extra: unknown key"),
        ({"format": None}, "it has not format 1; run `scoremux calibrate` again"),
        ({"format": 2}, "it has not format 1; run `scoremux calibrate` again"),
        ({"temperature": TEMPERATURE | {"value": 0}}, "temperature.value: .*greater than or equal to 0.05"),
        ({"temperature": TEMPERATURE | {"value": True}}, "temperature.value: .* number"),
        ({"temperature": TEMPERATURE | {"value": 10**400}}, "temperature.value: .* number"),
        ({"temperature": TEMPERATURE | {"value": float("nan")}}, "temperature.value: .* number"),
        ({"temperature": None}, "a threshold or a level_range needs a temperature"),
        (
            {"level_range": {"reach": 2, "confidence": 0.9, "source": "own", "rows": 9, "width": 2}},
            "reach: .*less than or equal to 1",
        ),
        (
            {"level_range": {"reach": 1, "confidence": 0.9, "source": "own", "rows": 9, "width": 2, "by_level": [2]}},
            "by_level.0: .*less than or equal to 1",
        ),
        ({"level_range": [1, 2]}, "level_range: Input should be a dictionary"),
        (
            {"threshold": {"least": 2, "reason": "NEW_TASK", "source": "own", "rows": 1, "share": 0}},
            "threshold.least: ",
        ),
        ({"unusual": UNUSUAL | {"centres": [[1, 2]]}}, "as wide as weights"),
        ({"unusual": UNUSUAL | {"centres": [[1e999]]}}, "centres.0.0: Input should be a finite number"),
        ({"unusual": UNUSUAL | {"centres": [[1], [1, 2]]}}, "unusual.centres: "),
        ({"conditions": {"blank": 7}}, "conditions.blank: Input should be a dictionary"),
    ],
)
def test_wrong_decision_is_refused_by_its_key(change: dict[str, object], why: str) -> None:
    policy = ScoringPolicy.model_validate({"target": {"exact": 0.5}})
    values = json.loads(fit(policy, {"t": draw_rows(200, 10)})["t"].to_json()) | change
    values = {name: value for name, value in values.items() if value is not None}
    with pytest.raises(InputError, match=why):
        Decision.parse(json.dumps(values).encode(), "decision.json")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[target]\nexact = 0.8\nhuman_share = 0.1", "target: .*human_share promises nothing"),
        ("[target]\nconfidence = 0.9", "target: .*give exact, within_of_humans, critical, total or human_share"),
        ("[target]\nexact = 0.8\nwithin_of_humans = 0.1", "target: .*give exact or within_of_humans, not both"),
        ("[target]\nexact = 1.5", "target.exact: .*less than or equal to 1"),
        ("[rows]\nold = 3", "rows.old: unknown key"),
        (
            "[conditions.copied]\naction = 'flag'\nrun = 2\nshare = 1",
            "conditions.copied.run: .*greater than or equal to 3",
        ),
        ("read_behind = 0.1", "unknown key read_behind"),
        ("x = ", "is not TOML"),
    ],
)
def test_wrong_policy_is_refused_by_its_key(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "policy.toml").write_text(text)
    with pytest.raises(InputError, match=why):
        read_policy(tmp_path / "policy.toml")
