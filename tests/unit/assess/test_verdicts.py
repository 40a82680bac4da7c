"""Intervals and verdicts: a fast share of the simulations in tests/slow, and the cases that they do not meet."""

import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import raters
from raters import Raters
from scoremux_client.errors import InputError
from scoremux_evidence.figures.agreement import BY_NAME, STATISTICS
from scoremux_evidence.figures.estimates import ONLY_MACHINE, Estimates, chance_beyond, difference, mean_of
from scoremux_evidence.figures.intervals import dsm_estimates, estimates, student_t
from scoremux_evidence.rows.label_columns import LabelColumns
from scoremux_evidence.rows.matching import match_files
from scoremux_evidence.rows.table import Rows, rated
from scoremux_evidence.verdicts.items import measure_items
from scoremux_evidence.verdicts.verdicts import (
    Criterion,
    Judgement,
    Verdict,
    fewer_fails,
    fewer_passes,
    holm,
    judge,
    read_criteria,
    worst,
)

ONE = np.zeros(1, np.int64)


def criterion(statistic: str, at_least: float | None, at_most: float | None, of: str = "task") -> Criterion:
    values = {"statistic": statistic, "at_least": at_least, "at_most": at_most, "of": of, "source": "x"}
    return Criterion.model_validate(values)


def of(name: str, ratings: Rows, student: list[int] | None = None) -> tuple[float, float, float]:
    ratings = ratings if student is None else ratings.plus(student=np.array(student))
    found = estimates([BY_NAME[name]], ratings, np.zeros(len(ratings), np.int64), 1)[name]
    return float(found.value[0]), float(found.low[0]), float(found.high[0])


@pytest.mark.parametrize("rows", [30, 500])
def test_intervals_hold_the_truth_in_about_95_percent_of_samples(rows: int) -> None:
    table = Raters(5, 0.85, shift=0.1).table()
    ratings, draw = raters.draws(table, rows, 1500, seed=1)
    for name, one in estimates(("qwk", "smd", "exact"), ratings, draw, 1500).items():
        true = of(name, raters.truth(table))[0]
        assert 0.93 <= ((one.low <= true) & (true <= one.high)).mean() <= 0.975, name


def test_the_jackknife_leaves_out_each_row_or_student_in_turn() -> None:
    people = rated([0, 1, 2, 1, 2, 0, 1, 2], [0, 1, 1, 1, 2, 1, 1, 2])
    left = [of("smd", people.where(np.arange(8) != n))[0] for n in range(8)]
    error = math.sqrt(7 / 8 * sum((x - np.mean(left)) ** 2 for x in left))
    value, low, high = of("smd", people)
    t = float(student_t(np.array([7.0]))[0])
    # Hall's interval is the wider one on one side at most.
    assert max(value - low, high - value) >= t * error * 0.999
    assert min(value - low, high - value) == pytest.approx(t * error)
    human, machine = [0, 1, 2, 1, 2, 0, 1, 2, 0, 2], [0, 1, 1, 1, 2, 1, 1, 2, 0, 2]
    alone, twice = rated(human, machine), rated(human * 2, machine * 2)
    students = list(range(10)) * 2
    for name in ("qwk", "smd", "sd_ratio"):
        wide, narrow = of(name, twice, students), of(name, twice)
        assert wide[2] - wide[1] > 1.3 * (narrow[2] - narrow[1]), name
    # Nobody knew before that a student's rows are equal, so that the interval is a little wider than of half the rows.
    (value, low, high), (_, low_alone, high_alone) = of("exact", twice, students), of("exact", alone)
    assert value == 0.8 and 1 < (high - low) / (high_alone - low_alone) < 1.1


def test_mean_over_tasks_counts_a_student_once() -> None:
    """Twelve tasks with the same rows tell no more than one of them if the same students wrote these."""
    draw = np.random.default_rng(8)
    human = draw.integers(0, 4, 60)
    machine = np.clip(human + draw.integers(-1, 2, 60), 0, 3)
    ratings, task = rated(np.tile(human, 12), np.tile(machine, 12)), np.repeat(np.arange(12), 60)
    same, others = np.tile(np.arange(60), 12), np.arange(720)
    chosen, member = [BY_NAME[name] for name in ("exact", "qwk", "smd", "sd_ratio")], np.tile(np.arange(60) < 25, 12)
    for student, alike in ((same, 1.0), (others, math.sqrt(12))):
        ratings = ratings.plus(student=student)
        found = estimates(chosen, ratings, task, 12)
        found |= {"gap": difference(found["exact"], found["exact"])}
        found |= {"dsm": dsm_estimates(ratings, task, member, 12)}
        for name, of_tasks in found.items():
            mean, of_one = mean_of(of_tasks), of_tasks.take(ONE)
            bias = np.broadcast_to(of_one.bias, 1)[0] if of_one.scale == "correlation" else 0
            assert mean.value[0] == pytest.approx(of_one.value[0] - bias)
            width = (of_one.high - of_one.low)[0] / alike
            assert (mean.high - mean.low)[0] == pytest.approx(width), (name, alike)


def test_mean_over_tasks_is_no_narrower_than_of_other_students_and_stays_on_its_scale() -> None:
    right, two = np.tile([0, 1], 5), np.repeat([0, 1], 10)
    human, once, others = np.zeros(20), np.tile(np.arange(10), 2), np.arange(20)
    opposed = rated(human, np.append(right, 1 - right))  # whoever is right in one task is wrong in the other
    by_students = [
        mean_of(estimates([BY_NAME["exact"]], opposed.plus(student=who), two, 2)["exact"]) for who in (once, others)
    ]
    assert by_students[0].low == pytest.approx(by_students[1].low) and by_students[0].high < 1
    perfect = estimates([BY_NAME["exact"]], rated(human, human, student=once), two, 2)["exact"]
    assert mean_of(perfect).low == pytest.approx(perfect.low[0]), "the same students, of whom none was wrong"
    # Without one student a task's machine gives one level only; a mean of r near 1 ends at 1.
    people, machine = [2, 0, 1, 1, 2] * 2, [2, 0, 2, 2, 1, 2, 1, 2, 2, 1]
    lone = [1, 2, 1, 2, 2, 1, 1, 1, 1, 2]
    task, student = np.repeat([0, 1], 5), np.tile(np.arange(5), 2)
    for name, given in (("r", machine), ("qwk", machine), ("sd_ratio", lone)):
        mean = mean_of(estimates([BY_NAME[name]], rated(people, given, student=student), task, 2)[name])
        assert mean.low[0] < mean.value[0] < mean.high[0] <= (1 if name != "sd_ratio" else math.inf), name


def test_a_group_of_students_who_answer_one_task_each_does_not_narrow_the_mean_of_another() -> None:
    """Cells 0 to 11 are tasks of the same 60 students, cells 12 to 23 of others."""
    draw = np.random.default_rng(8)
    human = draw.integers(0, 4, 24 * 60)
    machine = np.clip(human + draw.integers(-1, 2, 24 * 60), 0, 3)
    cell, student = np.repeat(np.arange(24), 60), np.append(np.tile(np.arange(60), 12), np.arange(60, 780))
    ratings = rated(human, machine, student=student)
    both = estimates([BY_NAME["exact"]], ratings, cell, 24)["exact"].take(np.arange(12))
    first = cell < 12
    alone = estimates([BY_NAME["exact"]], ratings.where(first), cell[first], 12)
    assert mean_of(both).low == pytest.approx(mean_of(alone["exact"]).low)


@pytest.mark.parametrize("students", [2, 3, 5, 8, 15])
def test_interval_of_exact_agreement_holds_the_truth_with_few_students(students: int) -> None:
    draw = np.random.default_rng(students)
    for truth, alike, uneven in ((0.8, 0.3, False), (0.8, 0.6, True), (0.95, 0.3, True)):
        ability = draw.beta(truth * (1 - alike) / alike, (1 - truth) * (1 - alike) / alike, 2000 * students)
        rows = draw.integers(1, 20, 2000 * students) if uneven else np.full(2000 * students, 10)
        right = draw.random(rows.sum()) < np.repeat(ability, rows)
        who = np.repeat(np.arange(2000 * students), rows)
        ratings = rated(np.ones(len(right)), right.astype(float), student=who)
        found = estimates([BY_NAME["exact"]], ratings, who // students, 2000)["exact"]
        assert ((found.low <= truth) & (truth <= found.high)).mean() >= 0.93, (truth, alike, uneven)
        assert students < 15 or np.mean(found.high - found.low) < 0.45


def test_mean_over_tasks_counts_a_constant_machine_as_0() -> None:
    # Machines: good, constant, the same level as people gave throughout, and good with one row of another level.
    human = [0, 1, 2, 1] * 10
    machines = [[0, 1, 2, 1] * 9 + [0, 1, 2, 2], [1] * 40, [1] * 40, [1] * 39 + [2]]
    humans = [human, human, [1] * 40, [*human[:-1], 2]]
    ratings = rated(np.concatenate(humans), np.concatenate(machines))
    found = estimates(STATISTICS, ratings, np.repeat(np.arange(4), 40), 4)
    for name in ("qwk", "r"):
        mean, values = mean_of(found[name]), np.nan_to_num(found[name].value - found[name].bias)
        assert math.isnan(found[name].low[1]) and values[1] == 0
        assert mean.n[0] == 3 and mean.value[0] == pytest.approx((values[0] + values[3]) / 3)
        assert mean.low[0] < mean.value[0] < mean.high[0]
    assert mean_of(found["exact"]).n[0] == 4
    for cells in ([1], [1, 1], [2]):  # no row bounds what such machines would do
        assert math.isnan(mean_of(found["qwk"].take(np.array(cells))).low[0])


@pytest.mark.parametrize("rows", [10, 20, 30, 60])
def test_good_machine_that_shows_one_level_by_chance_does_not_fail_for_it(rows: int) -> None:
    people = Raters(2, 0.95, skew=1.6)
    ratings, draw = raters.draws(people.table(), rows, 3000, seed=rows)
    for limits in (c for c in read_criteria() if c.statistic in ("qwk", "r", "smd", "sd_ratio")):
        name = limits.statistic
        found = estimates([BY_NAME[name]], ratings, draw, 3000)[name]
        judged, constant = judge(limits, found), found.one_level == ONLY_MACHINE
        assert constant.mean() > 0.02 and (judged.verdict[constant] != Verdict.PASS).all()
        assert ((judged.verdict == Verdict.FAIL) & constant).mean() <= 0.005, name
        assert (judged.p_fail[constant] > 0).all()


def test_figures_that_no_row_moves_have_the_width_of_what_could_go_unseen() -> None:
    same = rated([0, 1, 2] * 10, [0, 1, 2] * 10)
    value, low, high = of("qwk", same)
    assert (value, high) == (1, 1)
    assert low == pytest.approx(1 - (1 - 0.025 ** (1 / 30)) / (2 * 2 / 3))
    assert of("smd", same)[2] == -of("smd", same)[1] > 0
    assert of("exact", same)[1] == pytest.approx(0.886, abs=0.001)


@pytest.mark.parametrize("rows", [2, 9, 10, 15, 19, 300, 5000])
@pytest.mark.parametrize("right", [0.0, 0.3, 0.95])
def test_machine_that_gives_one_level_fails_where_people_gave_others_often_enough(rows: int, right: float) -> None:
    human = np.full(rows, 1 if right else 2)
    human[: max(1, round(rows * (1 - right)))] = 0
    human[-1] = 1
    estimate = estimates(STATISTICS, rated(human, np.ones(rows)), np.zeros(rows, np.int64), 1)
    for name in ("exact", "qwk", "r", "smd"):
        verdict = judge(criterion(name, 0.0, None), estimate[name]).verdict[0]
        # With five rows of another level, a good machine may miss all of them by chance.
        enough = rows >= 10 and (human == 0).sum() + (human == 2).sum() > 5
        assert verdict == (Verdict.FAIL if enough else Verdict.NOT_ENOUGH_ROWS), name


@pytest.mark.parametrize("rows", [2, 3, 9, 10])
def test_good_machine_seldom_fails_however_few_its_rows(rows: int) -> None:
    people = Raters(4, 0.9, 0.95, skew=0.7)
    ratings, draw = raters.draws(people.triples(), rows, 3000, seed=1)
    for limits in (criterion("qwk", 0.7, None), criterion("r", 0.7, None), criterion("smd", -0.15, 0.15)):
        name = limits.statistic
        judged = judge(limits, estimates([BY_NAME[name]], ratings, draw, 3000)[name])
        share = float((judged.verdict == Verdict.FAIL).mean())
        assert share <= (0.05 if rows == 10 else 0), name


@pytest.mark.parametrize("machine", [[1] * 40, [0, 1] * 20, [0] * 40])
def test_people_who_gave_one_level_tell_nothing_about_the_machine(machine: list[int]) -> None:
    estimate = estimates(STATISTICS, rated([1] * 40, machine, [1] * 40), np.zeros(40, np.int64), 1)
    judged = [(c, judge(c, estimate[c.statistic])) for c in read_criteria() if c.of == "task"]
    assert worst(judged, 1).verdict[0] == Verdict.NOT_ENOUGH_LEVELS


def test_required_criterion_that_was_not_measured_stands_in_the_way_of_pass() -> None:
    ratings = rated([0, 1, 2] * 300, [0, 1, 2] * 300)
    estimate = estimates(STATISTICS, ratings, np.zeros(900, np.int64), 1)
    qwk, humans = criterion("qwk", 0.7, None), criterion("degradation_qwk", -0.1, None)
    free = humans.model_copy(update={"required": False})
    verdicts = {c: judge(c, estimate[c.statistic]) for c in (qwk, humans, free)}
    assert worst([(c, verdicts[c]) for c in (qwk, humans)], 1).verdict[0] == Verdict.NOT_MEASURED
    assert worst([(c, verdicts[c]) for c in (qwk, free)], 1).verdict[0] == Verdict.PASS
    assert worst([(free, verdicts[free])], 1).verdict[0] == Verdict.NOT_MEASURED


def test_degradation_compares_both_sides_on_the_same_rows() -> None:
    # Where two humans read, the machine is worse than the second human; elsewhere it is perfect.
    human, second = [0, 1, 2, 0, 1, 2] * 20, [0, 1, 2, 0, 1, 1] * 20
    ratings = rated(human * 5, [0, 1, 1, 0, 1, 1] * 20 + human * 4, [*second, *[None] * 480])
    estimate = estimates(STATISTICS, ratings, np.zeros(600, np.int64), 1)
    assert estimate["exact"].value[0] == pytest.approx((120 * 4 / 6 + 480) / 600)
    assert estimate["double_exact"].value[0] == pytest.approx(4 / 6)
    assert estimate["degradation_exact"].value[0] == pytest.approx(4 / 6 - 5 / 6)


@pytest.mark.parametrize(("human", "machine"), [([1], [1]), ([1, 1], [1, 1]), ([1] * 5, [0, 1, 2, 1, 1])], ids=str)
def test_what_is_not_defined_has_no_interval_and_no_verdict(human: list[int], machine: list[int]) -> None:
    ratings = rated(human, machine)
    found = estimates(STATISTICS, ratings, np.zeros(len(human), np.int64), 1)
    assert math.isnan(found["qwk"].low[0])
    judged = judge(criterion("qwk", 0.7, None), found["qwk"])
    assert (judged.verdict[0], math.isnan(judged.needed[0])) == (Verdict.NOT_ENOUGH_ROWS, True)
    humans = judge(criterion("human_qwk", 0.7, None, "item"), found["human_qwk"])
    assert humans.verdict[0] == Verdict.NOT_MEASURED


def test_dsm_of_two_halves_is_opposite_and_a_group_of_one_has_no_interval() -> None:
    human, machine = [0, 1, 2, 0, 1, 2, 2, 1], [0, 1, 2, 1, 2, 2, 2, 2]
    ratings = rated(human * 2, machine * 2)
    cell, member = np.repeat([0, 1], 8), np.array([True] * 4 + [False] * 8 + [True] * 4)
    found = dsm_estimates(ratings, cell, member, 2)
    assert found.value[0] == pytest.approx(-found.value[1])
    assert (found.low < found.value).all()
    alone = dsm_estimates(rated(human, machine), np.zeros(8, np.int64), np.arange(8) == 0, 1)
    assert not math.isnan(alone.value[0])
    assert math.isnan(alone.low[0])


@pytest.mark.parametrize(
    ("low", "value", "high", "verdict", "needed"),
    [
        (0.71, 0.8, 0.9, Verdict.PASS, None),
        (0.4, 0.5, 0.69, Verdict.FAIL, None),
        # 100 · (0.2 / 0.1 · (1.96 + 0.84) / 1.96)²
        (0.6, 0.8, 0.9, Verdict.NOT_ENOUGH_ROWS, 817),
        (0.5, 0.6, 0.8, Verdict.NOT_ENOUGH_ROWS, 817),
        (0.6, 0.7, 0.8, Verdict.NOT_ENOUGH_ROWS, math.inf),
        (0.6, 0.7 + 1e-12, 0.8, Verdict.NOT_ENOUGH_ROWS, math.inf),
    ],
)
def test_whole_interval_decides(low: float, value: float, high: float, verdict: Verdict, needed: float | None) -> None:
    found = Estimates(*(np.array([x]) for x in (value, low, high, 100.0)), "difference")
    judged = judge(criterion("qwk", 0.7, None), found)
    assert judged.verdict[0] == verdict
    assert math.isnan(judged.needed[0]) if needed is None else judged.needed[0] == pytest.approx(needed, abs=1)


def test_a_range_must_be_cleared_on_both_sides_and_the_worst_verdict_counts() -> None:
    found = Estimates(*(np.array([x] * 3) for x in (0.0, -0.2, 0.2, 100.0)), "difference")
    found.high[1], found.low[1], found.value[2], found.low[2] = 0.1, -0.1, 0.3, 0.2
    judged = judge(criterion("smd", -0.15, 0.15), found)
    assert judged.verdict.tolist() == [Verdict.NOT_ENOUGH_ROWS, Verdict.PASS, Verdict.FAIL]
    assert judged.needed[0] == 364
    other = judge(criterion("smd", -1, 1), found)
    smd = criterion("smd", -0.15, 0.15)
    both = worst([(smd, judged), (smd, other)], 3)
    assert both.verdict.tolist() == judged.verdict.tolist()
    assert worst([], 1).verdict[0] == Verdict.NOT_MEASURED
    undefined = Judgement(np.full(3, Verdict.NOT_ENOUGH_ROWS, np.int8), *np.full((3, 3), np.nan))
    # No number of rows decides a figure that has no interval.
    assert np.isnan(worst([(smd, judged), (smd, undefined)], 3).needed).all()


def test_rows_needed_are_for_a_power_of_80_percent_and_absent_below_30_rows() -> None:
    table = Raters(5, 0.87, 0.95).triples()
    # The interval of a hundred rows that are just what is expected.
    kind = np.repeat(np.arange(table.size), np.rint(table.ravel() * 10_000).astype(int))
    human, second, machine = np.unravel_index(kind, table.shape)
    middle, *ends = np.arctanh(of("qwk", rated(human, machine, second)))
    low, high = (np.tanh(middle + 10 * (end - middle)) for end in ends)
    estimate = Estimates(*(np.array([x]) for x in (np.tanh(middle), low, high, 100.0)), "correlation")
    needed = int(judge(criterion("qwk", 0.7, None), estimate).needed[0])
    ratings, draw = raters.draws(table, needed, 3000, seed=4)
    verdict = judge(criterion("qwk", 0.7, None), estimates([BY_NAME["qwk"]], ratings, draw, 3000)["qwk"]).verdict
    assert 0.75 <= (verdict == Verdict.PASS).mean() <= 0.85
    few = Estimates(*(np.array([x]) for x in (0.8, 0.6, 0.9, 29.0)), "difference")
    assert math.isnan(judge(criterion("qwk", 0.7, None), few).needed[0])


def test_a_task_that_fails_qwk_by_a_hair_seldom_passes() -> None:
    people = Raters(5, 0.7911, 0.95)
    ratings, draw = raters.draws(people.triples(), 30, 3000, seed=2)
    assert of("qwk", raters.truth(people.triples()))[0] < 0.7
    found = estimates([BY_NAME["qwk"]], ratings, draw, 3000)["qwk"]
    assert (judge(read_criteria()[0], found).verdict == Verdict.PASS).mean() <= 0.05


def test_the_criteria_that_come_with_scoremux_have_sources() -> None:
    criteria = read_criteria()
    titles = [c.title for c in criteria if c.statistic in ("qwk", "smd", "dsm")]
    assert titles == ["QWK ≥ 0.70", "|SMD| ≤ 0.15", "|DSM| ≤ 0.10"]
    assert all(c.source for c in criteria)


GOOD = 'statistic = "qwk"\nat_least = 0.8\nsource = "ours"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "criterion: Field required"),
        ("x = 1\n[[criterion]]\n" + GOOD, "unknown key x; the keys are criterion"),
        ("[[criterion]]\n" + GOOD.replace("qwk", "kapa"), "criterion.0: .*no statistic 'kapa'"),
        ("[[criterion]]\n" + GOOD + "limit = 1\n", "criterion.0.limit: unknown key"),
        ("[[criterion]]\n" + GOOD.replace("0.8", '"high"'), "at_least: .*valid number"),
        ("[[criterion]]\n" + GOOD.replace("0.8", "nan"), "at_least: .*finite number"),
        ("[[criterion]]\n" + GOOD.replace("at_least = 0.8\n", ""), "needs at_least, at_most or both"),
        ("[[criterion]]\n" + GOOD + "at_most = 0.7\n", "at_least is greater than at_most"),
        ("[[criterion]]\n" + GOOD.replace('"ours"', '" "'), "criterion.0.source: "),
        ("[[criterion]]\n" + GOOD + 'of = "school"\n', "of: .*'task', 'group' or 'item'"),
        ("[[criterion]]\n" + GOOD.replace("qwk", "dsm"), "no statistic 'dsm'"),
        ("[[criterion\n", r"c\.toml is not TOML"),
    ],
)
def test_a_wrong_criterion_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        read_criteria(tmp_path / "c.toml")


def test_holm_is_the_worked_example_of_1979() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_corrected_verdicts_of_a_programme_hold_in_95_percent_of_programmes() -> None:
    programmes, tasks = 300, 27
    people = Raters(5, 0.7911, 0.95)
    ratings, draw = raters.draws(people.triples(), 60, programmes * tasks, seed=6)
    figures = estimates([BY_NAME["qwk"]], ratings, draw, programmes * tasks)["qwk"]
    misses, meets = criterion("qwk", 0.7, None), criterion("qwk", 0.69, None)
    wrong = dict.fromkeys(("pass", "pass, corrected", "fail", "fail, corrected"), 0.0)
    for first in range(0, programmes * tasks, tasks):
        programme = figures.take(np.arange(first, first + tasks))
        missed, met = judge(misses, programme), judge(meets, programme)
        wrong["pass"] += (missed.verdict == Verdict.PASS).any()
        wrong["pass, corrected"] += (fewer_passes(missed).verdict == Verdict.PASS).any()
        wrong["fail"] += (met.verdict == Verdict.FAIL).any()
        wrong["fail, corrected"] += (fewer_fails({meets: met})[meets].verdict == Verdict.FAIL).any()
    shares = {name: count / programmes for name, count in wrong.items()}
    assert shares["pass"] > 0.3 and shares["fail"] > 0.2
    assert shares["pass, corrected"] <= 0.05 and shares["fail, corrected"] <= 0.05


@pytest.mark.parametrize("scale", ["difference", "correlation", "ratio", "share"])
def test_chance_of_a_figure_is_a_fortieth_where_its_interval_ends_at_the_limit(scale: str) -> None:
    found = Estimates(*(np.array([x] * 2) for x in (0.6, 0.5, 0.7, 40.0)), scale)
    assert chance_beyond(found, 0.5, 1) == pytest.approx(0.025, abs=2e-4)
    assert chance_beyond(found, 0.7, -1) == pytest.approx(0.025, abs=2e-4)
    assert chance_beyond(found, 0.7, 1)[0] > 0.9


def test_difference_of_figures_of_different_rows_has_about_95_percent_coverage() -> None:
    one, other = Raters(5, 0.85).table(), Raters(5, 0.7).table()
    figures = []
    for seed, (table, rows) in enumerate(((one, 40), (other, 150))):
        ratings, draw = raters.draws(table, rows, 2000, seed=seed)
        figures.append(estimates([BY_NAME["qwk"], BY_NAME["exact"]], ratings, draw, 2000))
    for name in ("qwk", "exact"):
        gap = difference(figures[0][name], figures[1][name])
        true = of(name, raters.truth(one))[0] - of(name, raters.truth(other))[0]
        assert 0.93 <= ((gap.low <= true) & (true <= gap.high)).mean() <= 0.975, name


def test_verdict_of_a_task_does_not_depend_on_its_company() -> None:
    """A task that fails by itself fails beside 26 and 199 good tasks; corrected for the file it may not."""
    random = np.random.default_rng(5)
    criteria = [criterion for criterion in read_criteria() if criterion.of == "task"]

    def verdicts(tasks: int) -> tuple[Verdict, Verdict]:
        human = np.concatenate([bad[0], *(good[n][0] for n in range(tasks - 1))])
        machine = np.concatenate([bad[1], *(good[n][1] for n in range(tasks - 1))])
        second = np.clip(np.rint(human + np.resize(reader, len(human))), 0, 3)
        place = np.repeat(np.arange(tasks), 100)
        figures = estimates(
            [criterion.statistic for criterion in criteria], rated(human, machine, second), place, tasks
        )
        judged = {criterion: judge(criterion, figures[criterion.statistic]) for criterion in criteria}
        alone = worst(fewer_fails(judged, dict.fromkeys(judged, np.arange(tasks))).items(), tasks)
        together = fewer_passes(worst(fewer_fails(judged).items(), tasks))
        return Verdict(int(alone.verdict[0])), Verdict(int(together.verdict[0]))

    def pair(noise: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        human = random.integers(0, 4, 100).astype(float)
        return human, np.clip(np.rint(human + random.normal(0, noise, 100)), 0, 3)

    reader = random.normal(0, 0.45, 997)
    good = [pair(0.45) for _ in range(199)]
    seen = set()
    for _ in range(20):
        bad = pair(random.uniform(0.8, 1.3))
        (alone, _), (among_27, _), (among_200, in_file) = verdicts(1), verdicts(27), verdicts(200)
        assert alone == among_27 == among_200
        seen.add((alone, in_file))
    assert (Verdict.FAIL, Verdict.NOT_ENOUGH_ROWS) in seen


@pytest.mark.parametrize("pulled", [0.0, 0.5])
def test_an_item_has_figures_of_its_total_and_its_halo(tmp_path: Path, pulled: float) -> None:
    """Made-up essays of which the machine knows as much as a reader, or pulls each trait to the mean of all."""
    draw, traits, count = np.random.default_rng(7), ("a", "b", "c", "d"), 400
    true = 0.84 * draw.normal(size=(count, 1)) + 0.55 * draw.normal(size=(count, 4))
    machine, human, second = (true + 0.5 * draw.normal(size=true.shape) for _ in range(3))
    machine += pulled * (machine.mean(axis=1, keepdims=True) - machine)
    machine, human, second = (np.digitize(x, [-1.2, -0.4, 0.4, 1.2]) for x in (machine, human, second))
    package = tmp_path / "store/packages/v"
    package.mkdir(parents=True)
    weights = {"a": 2, "b": 1, "c": 1, "d": 0.5}
    of_traits = {name: {"levels": [0, 1, 2, 3, 4]} for name in traits}
    package.joinpath("task.json").write_text(
        json.dumps({"id": "e", "traits": of_traits, "total": {"weights": weights}})
    )
    scored, truth = [], []
    for n, k in np.ndindex(count, 4):
        row = {"id": str(n), "task": f"e.{traits[k]}"}
        level = int(machine[n, k])
        scored.append({**row, "status": "OK", "level": level, "score": float(level), "version": "v"})
        truth.append({**row, "level": int(human[n, k]), "second": int(second[n, k])})
    for name, rows in (("scored.jsonl", scored), ("truth.jsonl", truth)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = LabelColumns(second="second")
    matched = match_files(tmp_path / "scored.jsonl", tmp_path / "truth.jsonl", columns, tmp_path / "store")
    (item,) = measure_items(matched)
    of_machine, of_first, of_second = (x @ np.array([*weights.values()]) for x in (machine, human, second))
    assert item.figures["r"].value[0] == pytest.approx(np.corrcoef(of_machine, of_first)[0, 1])
    assert item.figures["sem"].value[0] == pytest.approx(np.sqrt(((of_first - of_second) ** 2).mean() / 2))
    assert 0.95 <= (np.abs(of_machine - of_first) <= item.reach).mean() < 0.98
    assert item.has_halo == (pulled > 0)
    assert item.halo["people"].value == pytest.approx(item.halo["across"].value, abs=0.05)
    trait = np.corrcoef(machine[:, 0], human[:, 0])[0, 1] ** 2
    assert item.gains["a"].value == pytest.approx(trait - np.corrcoef(of_machine, human[:, 0])[0, 1] ** 2)
