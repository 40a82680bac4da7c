"""The desk's agreement page against known truths: people read what was sent to them, and a share of the rest."""

import re
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from desks import scored_rows
from scoremux_desk import figures
from scoremux_desk.desk_policy import DeskPolicy
from scoremux_desk.machine_weights import weigh
from scoremux_desk.pages.rendering import figure
from scoremux_evidence.figures.estimates import rounded

TASKS, ROWS, WEEK_S = 4, 2000, 7 * 86_400.0


def simulated(behind: float, seed: int) -> tuple[list[Any], dict[tuple[str, str, str], float], float]:
    """Return blind decisions of two equally good raters, how many rows there are, and the machine's true agreement.

    The machine keeps half of the rows, the other task's half of these is more certain; anna reads most of the rows that
    are sent to people, ben and the later weeks most of the read-behind rows.
    """
    draw = np.random.default_rng(seed)
    decisions, population, truth = [], Counter[tuple[str, str, str]](), []
    for task in range(TASKS):
        sure = draw.uniform(0.3, 1.0, ROWS) ** (1 + task % 2)
        right = draw.random(ROWS) < sure
        kept = sure > (0.8, 0.6, 0.5, 0.35)[task]
        picked = kept & (draw.random(ROWS) < behind)
        read = picked | (~kept & (draw.random(ROWS) < 0.4))  # some routed rows still wait
        for row in range(ROWS):
            chosen_by = "read_behind" if picked[row] else "" if kept[row] else "route"
            population[f"t-{task}", "v", chosen_by] += 1
            truth.append(right[row])
            if read[row]:
                by_anna = draw.random() < (0.3 if picked[row] else 0.7)
                week = int(draw.random() < (0.6 if picked[row] else 0.2))
                decisions.append(
                    SimpleNamespace(
                        row=len(truth), round=1, last_round=1, task=f"t-{task}", version="v", kind="first", lead=None,
                        size=1, level=int(right[row]), machine_level=1, confidence=sure[row], chosen_by=chosen_by,
                        read_behind=behind if picked[row] else None, rater="anna" if by_anna else "ben",
                        at=1.8e9 + week * WEEK_S,
                    )
                )  # fmt: skip
    return decisions, dict(population), float(np.mean(truth))


@pytest.mark.parametrize("behind", [0.05, 0.3])
def test_agreement_with_the_machine_is_about_all_responses(behind: float) -> None:
    errors: dict[str, list[float]] = {}
    held = []
    for seed in range(30):
        decisions, population, truth = simulated(behind, seed)
        pairs = figures.pairs(decisions, "machine")
        for by in ("all", "rater", "week"):
            weights, about = figures.weights_beside_machine(decisions, population, by)
            assert "figures are about all responses" in about
            for line in figures.agreement(pairs, by, weights):
                assert np.isnan(line.figures["qwk"].value), "tasks have scales of their own"
                errors.setdefault(line.group, []).append(line.figures["exact"].value - truth)
                if by == "all":
                    held.append(line.figures["exact"].low <= truth <= line.figures["exact"].high)
        _, risk = figures.curve(decisions, population).points[-1]
        errors.setdefault("curve", []).append(1 - risk.value - truth)
        held.append(risk.low <= 1 - truth <= risk.high)
    assert len(errors) == 6  # all, two raters, two weeks, the curve
    assert {group: mean for group, found in errors.items() if abs(mean := np.mean(found)) > 0.01} == {}
    assert np.mean(held) >= 0.9


def test_curve_begins_where_some_rows_were_read() -> None:
    """Of 1,000 rows that the machine keeps two were read behind it: they alone are most of the weight."""
    rows = [
        SimpleNamespace(
            row=n, round=1, last_round=1, task="t", version="v", kind="first", lead=None, size=1, level=1,
            machine_level=1, confidence=1 - n / 100, rater="anna", at=1.8e9, read_behind=0.002 if n < 2 else None,
            chosen_by="read_behind" if n < 2 else "route",
        )
        for n in range(40)
    ]  # fmt: skip
    population = {("t", "v", "read_behind"): 2, ("t", "v", ""): 998, ("t", "v", "route"): 38}
    points = figures.curve(rows, population).points
    assert [coverage for coverage, _ in points] == [1.0]
    assert not np.isnan([risk for _, risk in points]).any()


def test_agreement_by_task_and_share_of_the_machine_are_those_of_all_rows() -> None:
    decisions, population, _ = simulated(0.3, 1)
    weights, _ = figures.weights_beside_machine(decisions, population, "task")
    lines = figures.agreement(figures.pairs(decisions, "machine"), "task", weights)
    assert not np.isnan([line.figures["qwk"].value for line in lines]).any()
    by_task = Counter[tuple[str, str]]()
    for d in decisions:
        by_task[d.task, d.chosen_by] += weights[d.row]
    for task in range(TASKS):
        kept = sum(population.get((f"t-{task}", "v", way), 0) for way in ("", "read_behind"))
        assert by_task[f"t-{task}", "read_behind"] == pytest.approx(kept)
        assert by_task[f"t-{task}", "route"] == pytest.approx(population[f"t-{task}", "v", "route"])
    kept = sum(number for (*_, way), number in population.items() if way != "route")
    place = figures.curve(decisions, population).policy
    assert place is not None
    assert place[0] == pytest.approx(kept / (TASKS * ROWS))
    assert place[1].low < place[1].value < place[1].high


def _decision(task: str, chosen_by: str, version: str = "v", **others: Any) -> Any:
    return SimpleNamespace(**{"task": task, "version": version, "chosen_by": chosen_by, "size": 1, "read_behind": None,
                              "rater": "anna"} | others)  # fmt: skip


def test_rows_that_stand_for_no_others_weigh_nothing() -> None:
    population = {("t", "v", "route"): 10, ("t", "v", "read_behind"): 2, ("t", "v", ""): 8, ("t", "old", "route"): 5,
                  ("t", "old", ""): 5, ("u", "v", "route"): 4, ("u", "v", ""): 6, ("n", "v", "all"): 3}  # fmt: skip
    decisions = [
        _decision("t", "route", size=4), _decision("t", "route"), _decision("t", "read_behind", read_behind=0.2),
        _decision("t", "route", "old"),  # nobody has seen what this version keeps
        _decision("t", ""),  # reopened by a leader
        _decision("t", "sample", read_behind=0.5),
        _decision("u", "route"), _decision("n", "all"),
    ]  # fmt: skip
    weight, routed = weigh(decisions, ["all"] * len(decisions), population)
    assert weight.tolist() == [8, 2, 10, 0, 0, 0, 4, 3]
    assert routed == ["u"]
    apart, _ = weigh(decisions, ["all", "late", *["all"] * 6], population)
    assert apart[1] == 0  # who has read only what was sent to people says nothing of all responses


def test_agreement_page_weighs_what_people_read(at_work: Any) -> None:
    rows = scored_rows(100)
    for n, row in enumerate(rows):
        routed = n < 30
        row |= {"task": "bio-7", "level": 1, "confidence": 0.4 if routed else 0.9, "condition": "",
                "probabilities": [0.1, 0.8, 0.1], "route": "human:LOW_CONFIDENCE" if routed else "machine",
                "read_behind": 0.2 if not routed and n % 5 == 0 else None}  # fmt: skip
    work = at_work(rows=rows, policy=DeskPolicy(groups=False))
    for name in ("anna", "ben"):
        for reason in ("LOW_CONFIDENCE", "READ_BEHIND"):
            for _ in range(30):
                read = work.take(name, reason=reason)
                if read is None:
                    break
                work.decide(name, read.token, 0 if reason == "LOW_CONFIDENCE" else 1)
                if name == "anna" and reason == "LOW_CONFIDENCE" and _ == 19:
                    break
                if name == "anna" and reason == "READ_BEHIND" and _ == 3:
                    break
    page = work.programme.client("lee").get("/agreement?by=rater").text
    machine = page.partition("Raters with the machine")[2].partition("</section>")[0]
    assert "figures are about all responses" in machine
    line = r"<bdi>(\w+)</bdi></td><td class=\"number\">(\d+)</td>\s*<td><span class=\"estimate\">(\d+) %"
    assert re.findall(line, machine) == [
        ("anna", "24", "70"), ("ben", "20", "70"),
    ]  # fmt: skip
    curve = page.partition("Risk against coverage")[2]
    assert 'class="band"' in curve
    assert "the machine keeps 70 %" in curve


def test_agreement_page_says_why_a_rater_has_no_figure(at_work: Any) -> None:
    rows = scored_rows(20)
    for n, row in enumerate(rows):
        routed = n < 10
        row |= {"task": "bio-7", "level": 1, "probabilities": [0.1, 0.8, 0.1], "condition": "",
                "route": "human:LOW_CONFIDENCE" if routed else "machine",
                "read_behind": None if routed else 0.5}  # fmt: skip
    work = at_work(rows=rows, policy=DeskPolicy(groups=False))
    for name, reason in (("anna", "LOW_CONFIDENCE"), ("ben", "READ_BEHIND")):
        while (read := work.take(name, reason=reason)) is not None:
            work.decide(name, read.token, 1)
    page = work.programme.client("lee").get("/agreement?by=rater").text
    line = r"<bdi>(\w+)</bdi></td><td class=\"number\">0</td>\s*<td[^>]*>nothing to say yet: read-behind responses"
    assert re.findall(line, page.partition("Raters with the machine")[2]) == ["anna", "ben"]


def test_a_number_that_rounds_to_zero_has_no_minus() -> None:
    numbers = (-0.004, -0.0, -0.006, 0.004)
    assert [figure(number) for number in numbers] == ["0.00", "0.00", "−0.01", "0.00"]
    assert [rounded(number, 3, "+") for number in (-0.0004, -0.0006)] == ["+0.000", "-0.001"]
