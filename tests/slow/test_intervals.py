"""Coverage of the 95 % intervals, and how often a criterion is passed that the truth fails."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import raters
from raters import GOOD_AND_BAD, OF_ALL_SORTS, MadeTask, Raters, replicate
from scoremux_evidence.figures.agreement import BY_NAME
from scoremux_evidence.figures.estimates import Estimates, mean_of
from scoremux_evidence.figures.intervals import dsm_estimates, estimates
from scoremux_evidence.rows.label_columns import LabelColumns
from scoremux_evidence.rows.matching import match_files
from scoremux_evidence.rows.table import Rows, rated
from scoremux_evidence.verdicts.totals import measure_totals
from scoremux_evidence.verdicts.verdicts import Criterion, Verdict, judge, read_criteria, worst
from waiting import Result, Scaled

NAMES = ("qwk", "smd", "exact", "adjacent", "r", "sd_ratio")
PROMISED = ("qwk", "smd", "exact")


@pytest.mark.parametrize("rows", [14, 30, 100, 500])
def test_ninety_five_percent_intervals_hold_the_truth_that_often(rows: int, scaled: Scaled, result: Result) -> None:
    times, found = scaled(20_000), {}
    for number, (name, table) in enumerate(raters.TABLES.items()):
        ratings, draw = raters.draws(table, rows, times, seed=number)
        chosen = [BY_NAME[statistic] for statistic in NAMES]
        got = estimates(chosen, ratings, draw, times)
        real = raters.truth(table)
        true = estimates(chosen, real, np.zeros(len(real), np.int64), 1)
        for statistic in NAMES:
            one, value = got[statistic], true[statistic].value[0]
            defined = ~np.isnan(one.low)
            found[name, statistic] = float(((one.low <= value) & (value <= one.high))[defined].mean())
            print(rows, name, statistic, f"{value:.3f}", f"{found[name, statistic]:.4f}", f"{defined.mean():.3f}")
    means = {s: np.mean([found[name, s] for name in raters.TABLES]) for s in NAMES}
    least = {s: min((found[name, s], name) for name in raters.TABLES) for s in PROMISED}
    figure = "; ".join(f"{s} {means[s]:.1%} (least {least[s][0]:.1%})" for s in PROMISED)
    result(f"coverage of 95 % intervals, n = {rows}", figure)
    if rows >= 30:
        assert all(0.93 <= means[s] <= 0.97 for s in PROMISED), means


@pytest.mark.parametrize("students", [2, 3, 5, 8, 15])
def test_exact_agreement_with_few_students(students: int, scaled: Scaled, result: Result) -> None:
    """Students have ten rows each, or 1 to 19; shares of right rows vary between them as a beta distribution."""
    times, random, found = scaled(5000), np.random.default_rng(students), []
    for truth in (0.6, 0.8, 0.95):
        for alike in (0.1, 0.3, 0.6):
            for uneven in (False, True):
                ability = random.beta(truth * (1 / alike - 1), (1 - truth) * (1 / alike - 1), times * students)
                rows = random.integers(1, 20, len(ability)) if uneven else np.full(len(ability), 10)
                right = random.random(rows.sum()) < np.repeat(ability, rows)
                who = np.repeat(np.arange(len(ability)), rows)
                ratings = rated(np.ones(len(right)), right.astype(float), student=who)
                one = estimates([BY_NAME["exact"]], ratings, who // students, times)["exact"]
                found.append(float(((one.low <= truth) & (truth <= one.high)).mean()))
    result(f"coverage of exact agreement, {students} students", f"{np.mean(found):.1%} (least {min(found):.1%})")
    assert min(found) >= 0.93 - 3 * math.sqrt(0.07 * 0.93 / times)


def _groups(shift: float) -> raters.Table:
    """Return the distribution of levels where the machine is more generous to the second half, [L, group, L]."""
    halves = [Raters(5, 0.9, 0.95, shift=of).table() / 2 for of in (0.0, shift)]
    return np.stack(halves, axis=1)


def _dsm(table: raters.Table, ratings: Rows, draw: npt.NDArray[np.int64], draws: int) -> Estimates:
    assert table.shape[1] == 2
    # The place of the second human holds the group.
    return dsm_estimates(ratings, draw, ratings.second == 1, draws)


@pytest.mark.parametrize("rows", [30, 100, 500])
def test_groups(rows: int, scaled: Scaled, result: Result) -> None:
    times, found = scaled(20_000), {}
    for shift in (0.0, 0.213, 0.4):
        table = _groups(shift)
        real = raters.truth(table)
        true = float(_dsm(table, real, np.zeros(len(real), np.int64), 1).value[0])
        got = _dsm(table, *raters.draws(table, rows, times, seed=rows), times)
        criterion = next(c for c in read_criteria() if c.statistic == "dsm")
        passed = float((judge(criterion, got).verdict == Verdict.PASS).mean())
        found[true] = float(((got.low <= true) & (true <= got.high)).mean()), passed
    shown = "; ".join(
        f"DSM {true:.3f}: coverage {cover:.1%}, PASS {passed:.1%}" for true, (cover, passed) in found.items()
    )
    result(f"intervals of DSM in half of the rows, n = {rows}", shown)
    # A group has few degrees of freedom: its intervals may be wide, not narrow.
    assert all(0.93 <= cover <= 0.99 for cover, _ in found.values())
    assert all(passed <= 0.05 for true, (_, passed) in found.items() if true > 0.1)


TUNED = {
    "qwk": (
        "machine",
        [Raters(5, 0, 0.95), Raters(3, 0, 0.9, shift=0.2), Raters(4, 0, 1.0, skew=0.7), Raters(2, 0, 0.95)],
    ),
    "smd": (
        "shift",
        [Raters(5, 0.95, 0.95), Raters(3, 0.99, 0.99), Raters(4, 0.8, 0.9, skew=0.7), Raters(2, 0.97, 1.0)],
    ),
    "degradation_qwk": ("machine", [Raters(5, 0, 0.95), Raters(3, 0, 0.9), Raters(4, 0, 0.9, skew=0.7)]),
    "degradation_exact": ("machine", [Raters(5, 0, 0.95), Raters(3, 0, 0.9), Raters(4, 0, 0.97, skew=0.7)]),
    "human_qwk": ("human", [Raters(5, 0.9), Raters(3, 0.9)]),
}
"""Statistic → the field of raters that moves it, and raters whose other fields stay."""


def _value(statistic: str, people: Raters) -> float:
    real = raters.truth(people.triples())
    return float(estimates([BY_NAME[statistic]], real, np.zeros(len(real), np.int64), 1)[statistic].value[0])


def _just_failing(criterion: Criterion, field: str, people: Raters) -> Raters | None:
    """Return raters whose true figure misses the criterion by a hair, None if no value of the field brings it there."""
    good, bad = (0.0, 1.5) if field == "shift" else (0.99, 0.3)

    def fails(setting: float) -> bool:
        value = _value(criterion.statistic, replace(people, **{field: setting}))
        low = -math.inf if criterion.at_least is None else criterion.at_least
        return not low <= value <= (math.inf if criterion.at_most is None else criterion.at_most)

    if fails(good) or not fails(bad):
        return None
    for _ in range(25):
        middle = (good + bad) / 2
        good, bad = (good, middle) if fails(middle) else (middle, bad)
    return replace(people, **{field: bad})


@pytest.mark.parametrize("rows", [14, 30, 100, 500])
def test_a_task_that_fails_a_criterion_seldom_passes_it(rows: int, scaled: Scaled, result: Result) -> None:
    times, found = scaled(20_000), {}
    for criterion in read_criteria():
        field, many = TUNED.get(criterion.statistic, ("", []))
        for number, people in enumerate(many):
            if (edge := _just_failing(criterion, field, people)) is None:
                continue
            ratings, draw = raters.draws(edge.triples(), rows, times, seed=number)
            got = estimates([BY_NAME[criterion.statistic]], ratings, draw, times)[criterion.statistic]
            found[criterion.statistic, number] = float((judge(criterion, got).verdict == Verdict.PASS).mean())
            print(rows, criterion.title, edge, f"{found[criterion.statistic, number]:.4f}")
    assert {statistic for statistic, _ in found} == set(TUNED)
    (name, _), most = max(found.items(), key=lambda item: item[1])
    result(f"PASS where the truth misses the criterion by a hair, n = {rows}", f"{most:.1%} at most ({name})")
    assert most <= 0.05, found


def _bad_machines() -> dict[str, raters.Table]:
    """Return joint distributions of two humans and a machine that must not pass, float64 [L, L, L]."""
    humans = Raters(5, 0.9, 0.9, skew=0.3).triples().sum(axis=2)
    levels = np.arange(5)
    constant, inverted = np.zeros((5, 5, 5)), np.zeros((5, 5, 5))
    constant[:, :, 2] = humans
    inverted[levels[:, None], levels[None, :], 4 - levels[:, None]] = humans
    one_level = np.zeros((5, 5, 5))
    one_level[1, 1] = [0.1, 0.7, 0.2, 0, 0]
    shuffled = humans[:, :, None] * humans.sum(axis=1)[None, None, :]
    return {"constant": constant, "inverted": inverted, "shuffled": shuffled, "people of one level": one_level}


@pytest.mark.parametrize("rows", [15, 30, 100, 500, 5000])
@pytest.mark.parametrize("machine", _bad_machines())
def test_bad_machines_fail(machine: str, rows: int, scaled: Scaled, result: Result) -> None:
    times = scaled(1000)
    ratings, draw = raters.draws(_bad_machines()[machine], rows, times, seed=rows)
    criteria = [c for c in read_criteria() if c.of == "task"]
    figures = estimates([BY_NAME[c.statistic] for c in criteria], ratings, draw, times)
    verdict = worst(((c, judge(c, figures[c.statistic])) for c in criteria), times).verdict
    shares = {v: float((verdict == v).mean()) for v in Verdict}
    result(f"verdicts on a machine that is {machine}, n = {rows}", f"FAIL {shares[Verdict.FAIL]:.1%}")
    if machine == "people of one level":
        assert shares[Verdict.NOT_ENOUGH_LEVELS] == 1
    elif machine == "constant":
        assert shares[Verdict.PASS] == 0
        assert rows < 30 or shares[Verdict.FAIL] + shares[Verdict.NOT_ENOUGH_LEVELS] == 1
    else:
        assert shares[Verdict.PASS] <= 0.05
        assert rows < 100 or shares[Verdict.FAIL] >= 0.95


@pytest.mark.parametrize("rows", [300, 2000])
def test_weighted_figures_of_a_desk_are_those_of_all_rows(rows: int, scaled: Scaled, result: Result) -> None:
    """All rows that are sent to people are read, a tenth of the machine's: weights are 1 and 10."""
    times = scaled(500)
    random = np.random.default_rng(rows)
    # The machine is right more often where it is confident.
    confident = random.random(times * rows) < 0.6
    human = random.integers(0, 4, times * rows)
    wrong = random.random(times * rows) < np.where(confident, 0.1, 0.5)
    machine = np.where(wrong, np.clip(human + random.choice([-1, 1], times * rows), 0, 3), human)
    read = ~confident | (random.random(times * rows) < 0.1)
    draw = np.repeat(np.arange(times), rows)
    second = np.clip(human + random.choice([-1, 0, 0, 0, 1], times * rows), 0, 3).astype(float)
    kept, weight = confident.astype(float), np.where(confident, 10.0, 1.0)
    every = rated(human, machine, second).plus(kept=kept)
    names = ("exact", "qwk", "smd", "people", "kept_exact", "kept_qwk", "record_exact", "record_qwk", "record_smd")
    true = estimates([BY_NAME[name] for name in names], every, np.zeros(len(every), np.int64), 1)
    # A third of the rows has a second reading.
    second[random.random(times * rows) > 1 / 3] = np.nan
    desk = rated(human[read], machine[read], second[read], weight=weight[read]).plus(kept=kept[read])
    for name, value in true.items():
        estimate = estimates([BY_NAME[name]], desk, draw[read], times)[name]
        bias = float(np.nanmean(estimate.value) - value.value[0])
        error = float(np.nanstd(estimate.value)) / math.sqrt(times)
        cover = float(((estimate.low <= value.value[0]) & (value.value[0] <= estimate.high)).mean())
        result(
            f"{name} of a desk's rows, weighted, n = {rows}", f"bias {bias:+.4f} ± {error:.4f}, coverage {cover:.1%}"
        )
        assert abs(bias) <= 4 * error + 0.2 / rows
        assert 0.92 <= cover <= 0.98 or times < 500


REPLICATIONS = 200


@pytest.mark.parametrize(("rows", "double"), [(60, 1.0), (90, 0.3)])
@pytest.mark.parametrize(
    ("name", "tasks"), [("19 good tasks and a bad one", GOOD_AND_BAD), ("20 tasks of all sorts", OF_ALL_SORTS)]
)
def test_promises_of_tasks_that_share_a_threshold(
    name: str, tasks: Mapping[str, MadeTask], rows: int, double: float, scaled: Scaled, result: Result
) -> None:
    outcome = replicate(tasks, rows, range(scaled(REPLICATIONS)), double)
    bad = outcome.kept.pop("bad", None)
    good = f"tasks keep {sum(outcome.kept.values()) / len(outcome.kept):.1%} of their rows"
    kept = good if bad is None else f"the bad one keeps {bad:.1%}, good {good}"
    found = f"found and broken by task {outcome.broken:.3f}, by all tasks together {outcome.together:.3f}"
    result(f"within_of_humans, {name}, {rows} rows each, {double:.0%} read twice", f"{kept}; {found}")
    assert bad is None or bad <= 0.05
    assert outcome.broken <= 0.07 and outcome.together <= 0.07


@pytest.mark.parametrize("students", [10, 20, 60])
def test_a_mean_of_qwk_over_tasks_of_few_students(students: int, scaled: Scaled, result: Result) -> None:
    """27 tasks that all students answer; the truth is that of 100,000 students."""
    tasks, random = 27, np.random.default_rng(1)
    errors, cuts = random.uniform(0.3, 0.9, tasks), np.sort(random.normal(0, 0.8, (tasks, 3)), axis=1)

    def qwks(count: int) -> Estimates:
        true = 0.7 * random.normal(size=(count, 1)) + 0.714 * random.normal(size=(count, tasks))
        seen = [true + error * random.normal(size=true.shape) for error in (np.float64(0.4), errors)]
        levels = [np.stack([np.digitize(of[:, n], cuts[n]) for n in range(tasks)], axis=1).ravel() for of in seen]
        cell, student = np.tile(np.arange(tasks), count), np.repeat(np.arange(count), tasks)
        return estimates([BY_NAME["qwk"]], rated(*levels, student=student), cell, tasks)["qwk"]

    truth, times = qwks(100_000).value.mean(), scaled(400)
    means = [mean_of(qwks(students)) for _ in range(times)]
    bias = np.mean([mean.value[0] for mean in means]) - truth
    covered = np.mean([mean.low[0] <= truth <= mean.high[0] for mean in means])
    result(f"mean of QWK, 27 tasks with {students} students", f"bias {bias:+.3f}, coverage {covered:.1%}")
    assert covered >= 0.90 or times < 400


def test_totals_of_students_whose_every_row_was_read(tmp_path: Path, scaled: Scaled, result: Result) -> None:
    """200 students, six tasks of four levels; the truth is that of 100,000. As routed: beside a second person."""
    random, tasks, cuts = np.random.default_rng(3), 6, [-0.8, 0.0, 0.8]

    def levels(count: int) -> tuple[npt.NDArray[np.int64], ...]:
        true = 0.7 * random.normal(size=(count, 1)) + 0.7 * random.normal(size=(count, tasks))
        first, second, machine = (
            np.digitize(true + error * random.normal(size=true.shape), cuts) for error in (0.4, 0.4, 0.6)
        )
        return first, second, machine, np.where(np.abs(true - 0.4) < 0.8, machine, first)

    def totals(of: tuple[npt.NDArray[np.int64], ...]) -> list[npt.NDArray[np.int64]]:
        return [each.sum(axis=1) for each in of]

    names, one = ("qwk", "smd", "r"), np.zeros(100_000, np.int64)
    first, second, machine, routed = totals(levels(len(one)))
    truth = {
        kind: estimates([BY_NAME[name] for name in names], rated(others, of), one, 1)
        for kind, others, of in (("machine", first, machine), ("as routed", second, routed))
    }
    held, times = dict.fromkeys([(kind, name) for kind in truth for name in names], 0), scaled(300)
    for _ in range(times):
        first, second, machine, routed = levels(200)
        rows = []
        for place, given in np.ndenumerate(first):
            route = "human:LOW_CONFIDENCE" if routed[place] == given != machine[place] else "machine"
            row = {"id": f"{place}", "task": f"t-{place[1]}", "status": "OK", "level": int(machine[place])}
            rows.append({**row, "route": route, "first": int(given), "second": int(second[place]), "who": place[0]})
        (tmp_path / "o.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        known = ({"id": row["id"], "level": row["first"], "second": row["second"], "who": row["who"]} for row in rows)
        (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in known))
        columns = LabelColumns(second="second", student="who")
        joined = match_files(tmp_path / "o.jsonl", tmp_path / "t.jsonl", columns)
        found = measure_totals(joined, joined.rows.task.code.astype(np.int64), tasks)
        assert not isinstance(found, str)
        for kind, name in held:
            figure, true = found.figures[kind][name].at(0), truth[kind][name].value[0]
            held[kind, name] += figure.low <= true <= figure.high
    for kind in truth:
        shares = [held[kind, name] / times for name in names]
        result(f"coverage of totals of 200 students, {kind}", ", ".join(map("{} {:.2f}".format, names, shares)))
        assert min(shares) >= 0.93 or times < 300
