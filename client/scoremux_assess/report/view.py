"""What the page shows, as words: an assessment turned into the values of the template."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_assess.agreement.assessment import MOST_DROPPED, Assessment, Figures, Groups
from scoremux_assess.agreement.estimates import Estimates
from scoremux_assess.agreement.joined_columns import JoinedColumns, LeftOut
from scoremux_assess.agreement.statistics import STATISTICS
from scoremux_assess.agreement.verdicts import MOST_WRONG, Criterion, Judgement, Verdict, rows_in_words, worst
from scoremux_assess.report.plots import Plots

FOREST_ROWS = 30
"""Figures in one forest plot."""

_SHOWN = ("qwk", "exact", "smd")
_STYLES = {
    Verdict.PASS: ("pass", "✓"),
    Verdict.FAIL: ("fail", "✗"),
    Verdict.NOT_ENOUGH_LEVELS: ("open", "…"),
    Verdict.NOT_ENOUGH_ROWS: ("open", "…"),
    Verdict.NOT_MEASURED: ("open", ""),
}

View = dict[str, Any]


def view(assessed: Assessment, joined: JoinedColumns) -> View:
    """Return the values of the template `page.html`."""
    plots = Plots()
    return {
        "summary": _summary(assessed, len(joined)),
        "double": bool(assessed.figures["human_qwk"].n[-1]),
        "criteria": [_criterion(c, judged) for c, judged in _all_judged(assessed).items()],
        "errors": _expected_errors(len(assessed.tasks)),
        "forests": list(_forests(assessed, plots)),
        "groups": list(_groups(assessed.groups, -1)),
        "fairness": list(_fairness(assessed)),
        "group_plots": list(_group_plots(assessed, plots)),
        "failing_groups": _failing_groups(assessed),
        "confidence": _confidence(assessed, joined.scored.calibrated, plots),
        "left": [_left_out(rows) for rows in joined.left_out],
        "tasks": [_task(assessed, cell, plots) for cell in range(len(assessed.tasks))],
        "whole": _row(assessed.figures, -1),
        "mean": _row(assessed.means, 0),
        "population": joined.population,
        "doubly": _doubly(assessed, len(joined)),
        "unit": "row" if joined.known.student is None else "student",
    }


def shown(estimate: Estimates, cell: int, digits: int = 2) -> View:
    """Return a figure and its interval as words."""
    value, low, high = estimate.at(cell)
    if math.isnan(value):
        return {"value": "–", "interval": ""}
    words = [f"{round(x, digits) + 0.0:.{digits}f}".replace("-", "−") for x in (value, low, high)]
    return {"value": words[0], "interval": "" if math.isnan(low) else f"[{words[1]}, {words[2]}]"}


def _verdict(judgement: Judgement, cell: int) -> View:
    verdict = Verdict(int(judgement.verdict[cell]))
    style, sign = _STYLES[verdict]
    return {"style": style, "sign": sign, "words": str(verdict)}


def _summary(assessed: Assessment, rows: int) -> str:
    counts = _counts(assessed.overall)
    parts = (f"{counts[verdict]} {words}" for verdict, words in _IN_WORDS.items() if counts[verdict])
    return f"{len(assessed.tasks):,} tasks: {', '.join(parts)}. {rows:,} rows have a score and a human's level."


_IN_WORDS = {
    Verdict.PASS: "pass",
    Verdict.FAIL: "fail",
    Verdict.NOT_ENOUGH_LEVELS: "have human levels of one kind only",
    Verdict.NOT_ENOUGH_ROWS: "have not enough rows for a verdict",
    Verdict.NOT_MEASURED: "miss a measurement that is required",
}


_REASONS = {
    Verdict.FAIL: "fails",
    Verdict.NOT_ENOUGH_LEVELS: "people gave one level only for",
    Verdict.NOT_ENOUGH_ROWS: "not decided",
    Verdict.NOT_MEASURED: "not measured",
}
_DECIDED = (Verdict.FAIL, Verdict.NOT_ENOUGH_LEVELS, Verdict.NOT_ENOUGH_ROWS)


def _counts(judgement: Judgement) -> dict[Verdict, int]:
    return {verdict: int((judgement.verdict == verdict).sum()) for verdict in Verdict}


def _all_judged(assessed: Assessment) -> dict[Criterion, Judgement]:
    groups = assessed.groups
    if groups is None:
        return assessed.judged
    of_tasks = groups.task >= 0
    parts = {c: Judgement(j.verdict[of_tasks], j.needed[of_tasks]) for c, j in groups.judged.items()}
    return {**assessed.judged, **parts}


def _criterion(criterion: Criterion, judgement: Judgement) -> View:
    counts = _counts(judgement)
    order = _IN_WORDS
    title = criterion.title + {"group": ", each group", "item": " (the item)"}.get(criterion.of, "")
    return {"title": title, "source": criterion.source, "counts": [f"{counts[verdict]:,}" for verdict in order]}


def _doubly(assessed: Assessment, rows: int) -> str:
    """Say which rows two humans read, and how they differ from the others."""
    exact, double = assessed.figures["exact"], assessed.figures["double_exact"]
    if not double.n[-1]:
        return ""
    return (
        f"Two humans read {double.n[-1] / rows:.0%} of the rows. There the machine agrees exactly with the first human "
        f"in {double.value[-1]:.1%}, in all rows in {exact.value[-1]:.1%}."
    )


def _expected_errors(tasks: int) -> str:
    """Say how many wrong verdicts the number of tasks makes likely."""
    most = MOST_WRONG * tasks
    return (
        f"A task that truly misses a criterion passes in {MOST_WRONG:.0%} of cases at most. With {tasks:,} tasks, "
        f"expect up to {most:.1f} wrong PASS if all of them miss one. Criteria are not corrected for their number: a "
        "task must pass all of them."
    )


def _forests(assessed: Assessment, plots: Plots) -> Iterator[View]:
    qwk, limits = assessed.figures["qwk"], _limits(assessed.judged, "qwk")
    for first in range(0, len(assessed.tasks), FOREST_ROWS):
        names = assessed.tasks[first : first + FOREST_ROWS]
        title = "QWK by task" if len(names) == len(assessed.tasks) else f"QWK, {names[0]} to {names[-1]}"
        part = qwk.take(np.arange(first, first + len(names)))
        yield {"title": title, "svg": plots.forest(names, part, limits, "QWK", title)}


def _limits(judged: dict[Criterion, Judgement], statistic: str) -> list[float]:
    limits = [limit for c in judged if c.statistic == statistic for limit in (c.at_least, c.at_most)]
    return [limit for limit in limits if limit is not None]


def _groups(groups: Groups | None, task: int) -> Iterator[View]:
    """Yield the groups of a task, −1 for those of all rows."""
    for cell in () if groups is None else np.flatnonzero(groups.task == task):
        assert groups is not None
        judged = ((c, Judgement(j.verdict[[cell]], j.needed[[cell]])) for c, j in groups.judged.items())
        yield {
            "name": _group(groups, cell),
            "rows": f"{int(groups.figures['exact'].n[cell]):,}",
            "cells": [shown(groups.figures[name], cell) for name in ("exact", "qwk", "smd", "dsm")],
            "verdict": _verdict(worst(judged, 1), 0),
        }


def _group_plots(assessed: Assessment, plots: Plots) -> Iterator[View]:
    groups = assessed.groups
    if groups is not None:
        cells = np.flatnonzero(groups.task < 0)
        names, title = [_group(groups, cell) for cell in cells], "DSM by group, all tasks together"
        svg = plots.forest(names, groups.figures["dsm"].take(cells), _limits(groups.judged, "dsm"), "DSM", title)
        yield {"title": title, "svg": svg}


def _fairness(assessed: Assessment) -> Iterator[View]:
    """Yield a row for each column of groups, of all tasks together."""
    fairness = assessed.fairness
    for cell in () if fairness is None else np.flatnonzero(fairness.task < 0):
        assert fairness is not None
        shares = [float(values[cell]) for values in fairness.figures.values()]
        words = ["–" if math.isnan(share) else f"{share:.3f}".replace("-", "−") for share in shares]
        yield {"column": fairness.column[cell], "rows": f"{fairness.n[cell]:,.0f}", "shares": words}


def _failing_groups(assessed: Assessment) -> str:
    groups = assessed.groups
    if groups is None:
        return ""
    fails = np.any([groups.task < -1, *(j.verdict == Verdict.FAIL for j in groups.judged.values())], axis=0)
    cells = np.flatnonzero(fails & (groups.task >= 0))
    names = [f"{assessed.tasks[groups.task[cell]]} ({_group(groups, cell)})" for cell in cells]
    return f"Groups of a task that fail a criterion: {', '.join(names) or 'none'}."


def _group(groups: Groups, cell: int) -> str:
    return f"{groups.column[cell]}: {groups.value[cell]}"


def _confidence(assessed: Assessment, calibrated: bool, plots: Plots) -> View | None:
    reliability = assessed.confidence
    error = reliability.error[-1]
    if math.isnan(error):
        return None
    what = "the calibrated probability of its level" if calibrated else "the greatest of its probabilities"
    sentence = (
        f"The machine's confidence is {what}. The expected calibration error is {error:.3f}: how far stated "
        "confidence and share of right levels are apart, on average. The second plot shows how the share of wrong "
        "levels falls if the machine keeps only the rows of which it is most confident."
    )
    titles = ("Reliability, all rows", "Risk against coverage, all rows")
    svgs = (
        plots.reliability(reliability, -1, titles[0]),
        plots.risk(reliability, -1, titles[1], _policy(assessed, -1)),
    )
    shown = [{"title": title, "svg": svg} for title, svg in zip(titles, svgs, strict=True)]
    return {"sentence": sentence + _routes(assessed, -1), "plots": shown}


def _policy(assessed: Assessment, cell: int) -> tuple[float, float]:
    return float(assessed.routing.machine[cell]), float(assessed.routing.wrong[cell])


def _routes(assessed: Assessment, cell: int) -> str:
    """Say where the policy stands, what the calibration did, and what more labelled rows would do."""
    routing, parts = assessed.routing, []
    before, after = routing.error_before[cell], assessed.confidence.error[cell]
    if before != after and not math.isnan(before):
        parts.append(f"Before the calibration the error was {before:.3f}, now it is {after:.3f}.")
    if not math.isnan(routing.machine[cell]):
        share, wrong = f"{routing.machine[cell]:.0%}", routing.wrong[cell]
        wrong_levels = "" if math.isnan(wrong) else f"; {wrong:.1%} of their levels are not the human's"
        parts.append(f"The policy leaves {share} of the rows to the machine (the large dot){wrong_levels}.")
    if (rows := int(assessed.ranges.rows[cell])) > 0:
        held, width = f"{assessed.ranges.held[cell]:.1%}", f"{assessed.ranges.width[cell]:.2f}"
        parts.append(f"The range of levels holds the human's in {held} of {rows:,} rows and has {width} on average.")
    if not math.isnan(routing.people[cell]):
        more = ""
        if not math.isnan(routing.rows[cell]):
            then = f"{routing.people_then[cell]:.0%}"
            more = f"; {routing.rows[cell]:,.0f} labelled rows would bring that to about {then}"
        share = f"{routing.people[cell]:.0%}"
        parts.append(f"A threshold chosen on these rows would send {share} to people{more}.")
    return "".join(f" {part}" for part in parts)


def _row(figures: Figures, cell: int) -> View:
    return {
        "rows": f"{int(figures['exact'].n[cell]):,}",
        "shown": [shown(figures[name], cell) for name in _SHOWN],
        "human": shown(figures["human_qwk"], cell),
    }


def _task(assessed: Assessment, cell: int, plots: Plots) -> View:
    name, table = assessed.tasks[cell], assessed.confusion[cell]
    title = f"Levels of {name}"
    error = assessed.confidence.error[cell]
    return {
        **_row(assessed.figures, cell),
        "name": name,
        "verdict": _verdict(assessed.overall, cell),
        "item": _verdict(assessed.item, cell),
        "needed": rows_in_words(assessed.overall.needed[cell]),
        "reasons": _reasons(assessed, cell),
        "plot": {"title": title, "svg": plots.distributions(table, title)},
        "risk": _risk(assessed, cell, plots),
        "routes": _routes(assessed, cell).strip(),
        "levels": list(range(len(table))),
        "confusion": list(_confusion(table, assessed.by_level[cell])),
        "figures": list(_figures(assessed, cell)),
        "groups": list(_groups(assessed.groups, cell)),
        "versions": assessed.versions[cell],
        "calibration": "" if math.isnan(error) else f"{error:.3f}",
    }


def _risk(assessed: Assessment, cell: int, plots: Plots) -> View | None:
    if math.isnan(assessed.confidence.error[cell]):
        return None
    title = f"Risk against coverage, {assessed.tasks[cell]}"
    return {"title": title, "svg": plots.risk(assessed.confidence, cell, title, _policy(assessed, cell))}


def _reasons(assessed: Assessment, cell: int) -> str:
    """Say which criteria fail and which are not decided."""
    parts, groups = [], assessed.groups
    for verdict, words in _REASONS.items():
        judged = ((c, j) for c, j in assessed.judged.items() if c.of == "task")
        titles = [c.title for c, j in judged if j.verdict[cell] == verdict and (c.required or verdict in _DECIDED)]
        if groups is not None and verdict is not Verdict.NOT_MEASURED:
            of_groups = ((c, j.verdict[groups.task == cell]) for c, j in groups.judged.items())
            titles += [f"{c.title} of a group" for c, verdicts in of_groups if (verdicts == verdict).any()]
        if titles:
            parts.append(f"{words}: {', '.join(titles)}")
    if assessed.dropped[cell] > MOST_DROPPED:
        parts.append(f"{assessed.dropped[cell]:.0%} of the rows were left out for what people gave them")
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}." if parts else ""


def _confusion(table: npt.NDArray[np.int64], agree: Estimates) -> Iterator[View]:
    for human, counts in enumerate(table):
        yield {"counts": [f"{count:,}" for count in counts], "agree": shown(agree, human)}


def _figures(assessed: Assessment, cell: int) -> Iterator[View]:
    criteria = {criterion.statistic: criterion for criterion in assessed.judged}
    for statistic in STATISTICS:
        estimate = assessed.figures[statistic.name]
        if not estimate.n[cell]:
            continue
        criterion = criteria.get(statistic.name)
        yield {
            "title": statistic.title,
            **shown(estimate, cell, digits=3),
            "rows": f"{int(estimate.n[cell]):,}",
            "criterion": criterion.title if criterion else "",
            "verdict": _verdict(assessed.judged[criterion], cell) if criterion else None,
        }


def _left_out(rows: LeftOut) -> View:
    more = " …" if rows.count > len(rows.examples) else ""
    return {"reason": rows.reason, "count": f"{rows.count:,}", "examples": ", ".join(rows.examples) + more}
