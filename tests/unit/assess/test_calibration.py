"""Temperatures, bounds and thresholds, and the decisions that a policy makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta

from making import ROOT
from scoremux_assess.decisions.calibration.bounds import most_errors, upper_bound
from scoremux_assess.decisions.calibration.ranges import Growth, reach
from scoremux_assess.decisions.calibration.temperature import Rows, fit_temperatures
from scoremux_assess.decisions.calibration.thresholds import Promise, choose
from scoremux_assess.decisions.calibration.unusual import fit_unusual
from scoremux_assess.decisions.decision import Decision, LevelRange, calibrated
from scoremux_assess.decisions.fit import Labelled, confidences, fit, severe_chances
from scoremux_assess.decisions.policy import Policy, Target, read_policy
from scoremux_client.errors import InputError


def draw_rows(count: int, seed: int, temperature: float = 2.0, levels: int = 4) -> Rows:
    """Return rows whose probabilities are too bold: to the power of 1/temperature they are true."""
    random = np.random.default_rng(seed)
    true = random.dirichlet(np.full(levels, 0.5), count)
    human = (true.cumsum(axis=1) < random.random((count, 1))).sum(axis=1).clip(max=levels - 1)
    bold = np.maximum(true, 1e-6) ** temperature
    bold /= bold.sum(axis=1, keepdims=True)
    return Rows(bold.astype(np.float32).astype(np.float64), bold.argmax(axis=1), human)


def labelled(rows: Rows, second: bool = False) -> Labelled:
    return Labelled(rows, rows.human.astype(float) if second else np.full(len(rows), np.nan))


@pytest.mark.parametrize(("errors", "rows"), [(0, 1), (0, 22), (1, 30), (7, 50), (50, 50), (120, 1000)])
def test_bounds_are_those_of_the_beta_distribution(errors: int, rows: int) -> None:
    expected = 1.0 if errors == rows else beta.ppf(0.9, errors + 1, rows - errors)
    assert upper_bound(errors, rows, 0.9) == pytest.approx(expected, abs=1e-9)


def test_the_most_errors_that_show_a_share_are_one_less_than_too_many() -> None:
    for rows in (10, 15, 40, 333):
        most = most_errors(rows, 0.15, 0.9)
        assert most < 0 or upper_bound(most, rows, 0.9) <= 0.15
        assert upper_bound(most + 1, rows, 0.9) > 0.15


def test_temperatures_undo_boldness_and_few_rows_stay_near_the_pooled_one() -> None:
    tasks = [draw_rows(3000, 1), draw_rows(3000, 2, 0.8), draw_rows(4, 3, 5.0), draw_rows(0, 4)]
    pooled, own = fit_temperatures(tasks)
    assert own[0] == pytest.approx(2.0, rel=0.1)
    assert own[1] == pytest.approx(0.8, rel=0.1)
    assert abs(np.log(own[2] / pooled)) < 0.35
    assert own[3] == pooled


def test_the_scorers_confidence_is_that_of_the_calibration() -> None:
    rows = draw_rows(50, 5)
    scaled = rows.probabilities ** (1 / 1.7)
    expected = scaled[np.arange(50), rows.level] / scaled.sum(axis=1)
    np.testing.assert_allclose(confidences(rows, 1.7), expected, rtol=1e-6)
    assert calibrated([0.0, 1.0, 0.0], 0.05) == [0.0, 1.0, 0.0]


def test_a_threshold_breaks_its_promise_as_rarely_as_it_says() -> None:
    promise = Promise(0.25, 0.2, 0.9)
    broken, chosen = 0, 0
    for seed in range(200):
        rows = draw_rows(150, seed, 1.0)
        apart = np.abs(rows.level - rows.human)
        threshold = choose(confidences(rows, 1.0), severe_chances(rows, 1.0), apart, promise)
        if threshold is not None:
            chosen += 1
            kept = np.abs(REST.level - REST.human)[threshold <= REST_SURE]
            broken += (kept > 0).mean() > 0.25 or (kept > 1).mean() > 0.2
    assert chosen > 20
    assert broken <= 0.1 * 200


REST = draw_rows(4000, 9999, 1.0)
REST_SURE = confidences(REST, 1.0)


def test_ranges_are_those_of_the_scorer_and_as_short_as_can_be() -> None:
    rows = draw_rows(300, 12)
    shares = [calibrated(own, 1.7) for own in rows.probabilities.tolist()]
    growth = Growth.of(rows, np.array(shares))
    for number in (0.0, 0.5, 0.83, 0.999, 1.0):
        own = LevelRange(number, 0.9, "own", 300, 1.0)
        found = [own.around(level, share) for level, share in zip(rows.level.tolist(), shares, strict=True)]
        held = [low <= human <= high for (low, high), human in zip(found, rows.human, strict=True)]
        assert held == ((growth.needed <= number) | (number == 1.0)).tolist()
        assert growth.widths(number).tolist() == [high - low + 1 for low, high in found]
    assert LevelRange(0.45, 0.9, "own", 1, 1.0).around(2, [0.1, 0.2, 0.3, 0.2, 0.2]) == (1, 2)  # ties: lower first


def test_ranges_hold_the_human_level_as_often_as_they_say_and_with_few_rows_are_all_levels() -> None:
    held, widths = [], []
    for seed in range(120):
        rows, later = draw_rows(60, seed, 1.0), draw_rows(200, 1000 + seed, 1.0)
        made = fit(Policy("d" * 64, range_confidence=0.9, own_rows=50), {"t": labelled(rows)})["t"]
        assert made.temperature and made.level_range
        shares = [calibrated(own, made.temperature.value) for own in later.probabilities.tolist()]
        growth = Growth.of(later, np.array(shares))
        held.append((growth.needed <= made.level_range.reach).mean())
        widths.append(growth.widths(made.level_range.reach).mean())
    assert 0.9 <= np.mean(held) <= 0.93
    assert np.mean(widths) < 2.5  # of four levels
    assert reach(np.zeros(8), 0.9) == 1.0
    assert reach(np.zeros(9), 0.9) == 0.0


def test_tasks_with_few_rows_share_a_range_and_the_confidence_is_the_targets_unless_the_policy_says_more(
    tmp_path: Path,
) -> None:
    tasks = {"own": draw_rows(300, 1), "a": draw_rows(20, 2), "b": draw_rows(90, 3)}
    (tmp_path / "policy.toml").write_text("[target]\nexact = 0.7\nconfidence = 0.8\n")
    policy = read_policy(tmp_path / "policy.toml")
    found = {name: one.level_range for name, one in fit(policy, {n: labelled(r) for n, r in tasks.items()}).items()}
    assert {name: (one.source, one.rows, one.confidence) for name, one in found.items() if one} == {
        "own": ("own", 300, 0.8), "a": ("pooled", 110, 0.8), "b": ("pooled", 110, 0.8),
    }  # fmt: skip
    (tmp_path / "policy.toml").write_text("[range]\nconfidence = 0.95\n")
    assert read_policy(tmp_path / "policy.toml").range_confidence == 0.95
    (tmp_path / "policy.toml").write_text("[rows]\nown = 9\n")
    assert fit(read_policy(tmp_path / "policy.toml"), {"t": labelled(tasks["a"])})["t"].level_range is None


def test_tasks_get_thresholds_of_their_own_a_pooled_one_or_none_by_their_rows() -> None:
    tasks = {"own": draw_rows(300, 1), "a": draw_rows(80, 2), "b": draw_rows(90, 3), "new": draw_rows(10, 4)}
    policy = Policy("d" * 64, Target(exact=0.7), own_rows=100, new_rows=30)
    made = fit(policy, {name: labelled(rows) for name, rows in tasks.items()})
    found = {name: one.threshold for name, one in made.items()}
    assert {name: one.source for name, one in found.items() if one} == {
        "own": "own", "a": "pooled", "b": "pooled", "new": "none",
    }  # fmt: skip
    assert found["a"] and found["b"] and found["new"]
    assert found["a"].least == found["b"].least is not None
    assert (found["a"].rows, found["new"].reason, found["new"].share) == (170, "NEW_TASK", 1.0)


def test_a_target_that_no_cut_reaches_sends_everything_to_people() -> None:
    made = fit(Policy("d" * 64, Target(exact=0.999)), {"t": labelled(draw_rows(200, 6))})
    threshold = made["t"].threshold
    assert threshold is not None
    assert (threshold.least, threshold.reason, threshold.share) == (None, "LOW_CONFIDENCE", 1.0)


def test_a_fixed_share_is_the_least_confident_one() -> None:
    rows = draw_rows(400, 7)
    made = fit(Policy("d" * 64, Target(human_share=0.25)), {"t": labelled(rows)})
    assert made["t"].threshold is not None
    assert made["t"].threshold.share == pytest.approx(0.25, abs=0.01)
    certain = {"t": labelled(Rows(np.array([[0.0, 1.0]] * 200), np.ones(200, np.int64), np.ones(200, np.int64)))}
    for share, least in ((0.0, 0.0), (1.0, None)):
        threshold = fit(Policy("d" * 64, Target(human_share=share)), certain)["t"].threshold
        assert threshold is not None
        assert (threshold.least, threshold.share) == (least, share)


@pytest.mark.parametrize("target", [Target(exact=0.0), Target(exact=1.0, critical=0.0, confidence=0.9999)])
def test_odd_tasks_get_decisions_that_can_be_read(target: Target) -> None:
    def rows(probabilities: list[float], human: int, count: int = 200) -> Labelled:
        given = np.tile(probabilities, (count, 1))
        return labelled(Rows(given, given.argmax(axis=1), np.full(count, human)))

    tasks = {
        "one level": rows([1.0], 0), "one row": rows([0.4, 0.6], 0, 1), "no row": rows([0.4, 0.6], 0, 0),
        "all right": rows([0.4, 0.6], 1), "all wrong": rows([0.4, 0.6], 0), "certain and wrong": rows([0.0, 1.0], 0),
    }  # fmt: skip
    for one in fit(Policy("d" * 64, target, 0.9999, own_rows=1, new_rows=0, unusual=1.0), tasks).values():
        assert Decision.parse(one.to_json(), "decision.json") == one


def test_agreement_within_that_of_humans_needs_two_humans() -> None:
    policy, rows = Policy("d" * 64, Target(within_of_humans=0.3)), draw_rows(300, 8)
    with pytest.raises(InputError, match="levels of two humans"):
        fit(policy, {"t": labelled(rows)})
    threshold = fit(policy, {"t": labelled(rows, second=True)})["t"].threshold
    assert threshold is not None
    assert threshold.exact == pytest.approx(0.7, abs=1e-6)  # two humans who always agree: at most 1


def test_what_is_unlike_all_levels_centres_is_unusual() -> None:
    random = np.random.default_rng(0)
    level = np.repeat([0, 1], 100)
    vectors = (random.normal(size=(200, 16)) + level[:, None] * 3).astype(np.float32)
    made = fit_unusual(vectors, level, 0.95)
    assert made is not None
    assert made.centres.shape == (2, 16)
    distances = [made.distance(vector) for vector in vectors]
    assert 0.93 <= np.mean(np.array(distances) <= made.limit) <= 1.0
    assert made.distance(np.full(16, 9, np.float32)) > made.limit


def test_decisions_survive_their_file() -> None:
    policy = Policy("d" * 64, Target(exact=0.7), conditions=read_policy(ROOT / "examples" / "policy.toml").conditions)
    rows = draw_rows(120, 9)
    pooled = np.random.default_rng(1).normal(size=(120, 8)).astype(np.float32)
    made = fit(Policy(**{**vars(policy), "unusual": 0.99}), {"t": Labelled(rows, np.full(120, np.nan), pooled)})["t"]
    again = Decision.parse(made.to_json(), "decision.json")
    assert again.to_json() == made.to_json()
    assert (again.temperature, again.threshold, again.conditions) == (made.temperature, made.threshold, made.conditions)


UNUSUAL = {"limit": 1, "quantile": 1, "rows": 1, "centres": [[1]], "weights": [1]}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"policy": None}, "policy is missing; it is a text"),
        ({"extra": 1}, "unknown key extra"),
        ({"temperature": {"value": 0, "source": "own", "rows": 1}}, "value is wrong: it is a number from 0.05 to 100"),
        ({"temperature": {"value": True, "source": "own", "rows": 1}}, "value is wrong"),
        ({"read_behind": 10**400}, "read_behind is wrong: it is a number from 0 to 1"),
        ({"read_behind": float("nan")}, "read_behind is wrong: it is a number from 0 to 1"),
        ({"temperature": None}, "a threshold needs a temperature"),
        ({"level_range": {"reach": 2, "confidence": 0.9, "source": "own", "rows": 9, "width": 2}}, "reach is wrong"),
        ({"level_range": [1, 2]}, "level_range is wrong: it is a table"),
        ({"threshold": {"least": 2, "reason": "NEW_TASK", "source": "own", "rows": 1, "share": 0}}, "least is wrong"),
        (
            {"unusual": {"limit": 1, "quantile": 1, "rows": 1, "centres": [[1, 2]], "weights": [1]}},
            "as wide as weights",
        ),
        ({"unusual": {"limit": 1, "quantile": 1, "rows": 1, "centres": [[1e999]], "weights": [1]}}, "lists of numbers"),
        ({"conditions": {"blank": 7}}, "blank is wrong: it is a table"),
    ],
)
def test_a_wrong_decision_is_refused_by_the_key_that_is_wrong(change: dict[str, object], why: str) -> None:
    rows = draw_rows(200, 10)
    values = json.loads(fit(Policy("d" * 64, Target(exact=0.5)), {"t": labelled(rows)})["t"].to_json())
    for key, value in change.items():
        values = {name: one for name, one in values.items() if name != key} | ({} if value is None else {key: value})
    with pytest.raises(InputError, match=why):
        Decision.parse(json.dumps(values).encode(), "decision.json")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[target]\nexact = 0.8\nhuman_share = 0.1", "human_share promises nothing"),
        ("[target]\nconfidence = 0.9", "give exact, within_of_humans, critical or human_share"),
        ("[target]\nexact = 0.8\nwithin_of_humans = 0.1", "give one of them"),
        ("[rows]\nold = 3", "unknown key old"),
        ("x = ", "is not TOML"),
    ],
)
def test_a_wrong_policy_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "policy.toml").write_text(text)
    with pytest.raises(InputError, match=why):
        read_policy(tmp_path / "policy.toml")
