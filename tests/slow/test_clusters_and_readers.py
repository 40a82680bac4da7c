"""Made-up labels of a few schools, and second readers who are bad: coverage of intervals, and who passes.

python -m pytest tests/slow/test_clusters_and_readers.py -s
"""

import numpy as np
import numpy.typing as npt
import pytest

from scoremux_decide.policy import AgreementTarget, ScoringPolicy
from scoremux_evidence.figures.intervals import estimates
from scoremux_evidence.promise.fit import fit
from scoremux_evidence.rows.table import Rows, rated
from scoremux_evidence.verdicts.verdicts import Verdict, fewer_fails, judge, read_criteria, worst
from waiting import Result, Scaled

Floats = npt.NDArray[np.float64]
ROWS = 320


def _schools(random: np.random.Generator, schools: int, tasks: int, rows: int) -> tuple[Floats, Floats, Floats]:
    """Return levels of people and machine and the school of each row, [T, B]; schools err and lean differently."""
    school = np.tile(np.repeat(np.arange(schools), rows // schools), (tasks, 1))
    lean = random.normal(0, 0.25, (tasks, schools))
    noise = np.exp(random.normal(-0.6, 0.35, (tasks, schools)))
    able = random.normal(0, 0.4, (tasks, schools))
    of = (np.arange(tasks)[:, None], school)
    truth = 1.5 + random.normal(0, 0.9, school.shape) + able[of]
    human = np.clip(np.rint(truth + random.normal(0, 0.35, school.shape)), 0, 3)
    machine = np.clip(np.rint(truth + lean[of] + noise[of] * random.normal(0, 1, school.shape)), 0, 3)
    return human, machine, school + np.arange(tasks)[:, None] * schools


@pytest.mark.parametrize("schools", [8, 20])
def test_intervals_of_clusters_cover(schools: int, scaled: Scaled, result: Result) -> None:
    random, tasks = np.random.default_rng(21), scaled(400)
    whole = _schools(random, 4000, 40, 40_000)
    names = ("exact", "qwk", "smd")
    truth = estimates(names, rated(whole[0].ravel(), whole[1].ravel()), np.zeros(whole[0].size, np.int64), 1)
    human, machine, school = _schools(random, schools, tasks, ROWS)
    place = np.repeat(np.arange(tasks), human.shape[1])
    rows = rated(human.ravel(), machine.ravel())
    lines = []
    for name in names:
        covered = []
        for of in (rows, rows.plus(cluster=school.ravel())):
            found = estimates([name], of, place, tasks)[name]
            covered.append(float(((found.low <= truth[name].value[0]) & (truth[name].value[0] <= found.high)).mean()))
        lines.append(f"{name} {covered[1]:.3f} (without clusters {covered[0]:.3f})")
        assert covered[1] >= 0.90
    result(f"intervals, {ROWS} rows of {schools} schools: coverage", ", ".join(lines))


def test_promises_of_clusters_are_kept(scaled: Scaled, result: Result) -> None:
    """The machine's confidence says nothing, and its true error is 0.151 where 0.15 is promised; 20 schools."""
    random, runs, schools = np.random.default_rng(22), scaled(200), 20
    policy = ScoringPolicy(target=AgreementTarget(exact=0.85))
    broken = {True: 0, False: 0}
    for _ in range(runs):
        school = np.repeat(np.arange(schools), ROWS // schools)
        error = random.beta(0.151 * 11, 0.849 * 11, schools)[school]
        right = random.random(ROWS) >= error
        confidence = random.uniform(0.6, 0.99, ROWS)
        level = np.arange(ROWS) % 2
        shares = np.where(level[:, None] == np.arange(2), confidence[:, None], 1 - confidence[:, None])
        for named in (True, False):
            rows = Rows.of(
                probabilities=shares,
                machine=level,
                human=np.where(right, level, 1 - level),
                second=np.full(ROWS, np.nan),
                weight=np.ones(ROWS),
                student=school if named else np.full(ROWS, -1),
                text=np.full(ROWS, -1),
            )
            threshold = fit(policy, {"t": rows}, {}, []).decisions["t"].threshold
            broken[named] += threshold is not None and threshold.least is not None
    shares_broken = {named: count / runs for named, count in broken.items()}
    figure = f"{shares_broken[True]:.3f}, without clusters {shares_broken[False]:.3f} (asked: 0.10)"
    result(f"promises of 0.85, {ROWS} rows of {schools} schools, truth 0.849: broken", figure)
    assert shares_broken[True] <= 0.10


READERS = {"as good as the first": (0.0, 0.35), "severe by 0.3": (0.3, 0.35), "severe by 0.6": (0.6, 0.35),
           "careless": (0.0, 0.9)}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_a_bad_second_reader_lets_no_bad_machine_pass(reader: str, scaled: Scaled, result: Result) -> None:
    random, tasks, rows = np.random.default_rng(23), scaled(400), 300
    severe, noise = READERS[reader]
    truth = random.normal(1.5, 1.1, (tasks, rows))

    def read(spread: float, lean: float = 0.0) -> Floats:
        return np.clip(np.rint(truth - lean + random.normal(0, spread, truth.shape)), 0, 3).ravel()

    human, second, machine = read(0.35), read(noise, severe), read(0.85)
    criteria = [criterion for criterion in read_criteria() if criterion.of == "task"]
    names = [criterion.statistic for criterion in criteria]
    cells = np.repeat(np.arange(tasks), rows)
    verdicts = {}
    for which, levels in (("bad", machine), ("good", read(0.35))):
        found = estimates(names, rated(human, levels, second), cells, tasks)
        judged = {criterion: judge(criterion, found[criterion.statistic]) for criterion in criteria}
        overall = worst(fewer_fails(judged, dict.fromkeys(judged, np.arange(tasks))).items(), tasks)
        verdicts[which] = {v: float((overall.verdict == v).mean()) for v in (Verdict.PASS, Verdict.FAIL)}
    bad, good = verdicts["bad"], verdicts["good"]
    result(
        f"verdicts, second reader {reader}, {rows} rows read twice",
        f"a bad machine: PASS {bad[Verdict.PASS]:.3f}, FAIL {bad[Verdict.FAIL]:.3f}; a machine as good as the first "
        f"reader: PASS {good[Verdict.PASS]:.3f}, FAIL {good[Verdict.FAIL]:.3f}",
    )
    assert bad[Verdict.PASS] <= 0.05


@pytest.mark.parametrize("rows", [100, 300, 1000])
def test_how_often_a_good_task_fails(rows: int, scaled: Scaled, result: Result) -> None:
    random, tasks = np.random.default_rng(24), scaled(400)
    truth = random.normal(1.5, 1.1, (tasks, rows))
    human, machine, second = (
        np.clip(np.rint(truth + random.normal(0, 0.45, truth.shape)), 0, 3).ravel() for _ in "123"
    )
    criteria = [criterion for criterion in read_criteria() if criterion.of == "task"]
    names = [criterion.statistic for criterion in criteria]
    found = estimates(names, rated(human, machine, second), np.repeat(np.arange(tasks), rows), tasks)
    judged = {criterion: judge(criterion, found[criterion.statistic]) for criterion in criteria}
    overall = worst(fewer_fails(judged, dict.fromkeys(judged, np.arange(tasks))).items(), tasks)
    fails, passes = ((overall.verdict == verdict).mean() for verdict in (Verdict.FAIL, Verdict.PASS))
    result(f"a machine as good as two readers, {rows} rows", f"FAIL {fails:.3f}, PASS {passes:.3f}")
    assert fails <= 0.05
