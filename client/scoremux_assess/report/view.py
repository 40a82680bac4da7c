"""What the page shows, as words: an assessment turned into the values of the template."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from scoremux_assess.agreement.assessment import Assessment, Found, Groups
from scoremux_assess.agreement.intervals import Estimates, estimates
from scoremux_assess.agreement.joining import Joined
from scoremux_assess.agreement.ratings import Ratings
from scoremux_assess.agreement.statistics import BY_NAME, STATISTICS
from scoremux_assess.agreement.verdicts import Criterion, Judged, Verdict, rows_in_words, worst
from scoremux_assess.report.plots import Plots

FOREST_ROWS = 30
"""Figures in one forest plot."""

_SHOWN = ("qwk", "exact", "smd")
_STYLES = {
    Verdict.PASS: ("pass", "✓"),
    Verdict.FAIL: ("fail", "✗"),
    Verdict.NOT_ENOUGH_ROWS: ("open", "…"),
    Verdict.NOT_MEASURED: ("open", ""),
}

View = dict[str, Any]


def view(assessed: Assessment, joined: Joined) -> View:
    """Return the values of the template `page.html`."""
    plots = Plots()
    return {
        "summary": _summary(assessed, len(joined)),
        "double": bool(assessed.found["human_qwk"].n[-1]),
        "criteria": [_criterion(c, judged) for c, judged in _all_judged(assessed).items()],
        "forests": list(_forests(assessed, plots)),
        "groups": list(_groups(assessed.groups, -1)),
        "group_plots": list(_group_plots(assessed, plots)),
        "failing_groups": _failing_groups(assessed),
        "confidence": _confidence(assessed, joined.calibrated, plots),
        "left": [{"reason": x.reason, "count": f"{x.count:,}", "examples": _examples(x)} for x in joined.left],
        "tasks": [_task(assessed, cell, plots) for cell in range(len(assessed.tasks))],
        "whole": _row(assessed.found, -1),
        "unit": "row" if joined.student is None else "student",
    }


def shown(found: Estimates, cell: int, digits: int = 2) -> View:
    """Return a figure and its interval as words."""
    value, low, high = (float(column[cell]) for column in (found.value, found.low, found.high))
    if math.isnan(value):
        return {"value": "–", "interval": ""}
    words = [f"{round(x, digits) + 0.0:.{digits}f}".replace("-", "−") for x in (value, low, high)]
    return {"value": words[0], "interval": "" if math.isnan(low) else f"[{words[1]}, {words[2]}]"}


def _verdict(judged: Judged, cell: int) -> View:
    verdict = Verdict(int(judged.verdict[cell]))
    style, sign = _STYLES[verdict]
    return {"style": style, "sign": sign, "words": "not measured" if verdict is Verdict.NOT_MEASURED else str(verdict)}


def _summary(assessed: Assessment, rows: int) -> str:
    counts = _counts(assessed.overall)
    said = (f"{counts[verdict]} {words}" for verdict, words in _IN_WORDS.items() if counts[verdict])
    return f"{len(assessed.tasks):,} tasks: {', '.join(said)}. {rows:,} rows have a score and a human's level."


_IN_WORDS = {
    Verdict.PASS: "pass",
    Verdict.FAIL: "fail",
    Verdict.NOT_ENOUGH_ROWS: "have not enough rows for a verdict",
    Verdict.NOT_MEASURED: "have no criterion that could be measured",
}


def _counts(judged: Judged) -> dict[Verdict, int]:
    return {verdict: int((judged.verdict == verdict).sum()) for verdict in Verdict}


def _all_judged(assessed: Assessment) -> dict[Criterion, Judged]:
    groups = assessed.groups
    if groups is None:
        return assessed.judged
    of_tasks = groups.task >= 0
    parts = {c: Judged(j.verdict[of_tasks], j.needed[of_tasks]) for c, j in groups.judged.items()}
    return {**assessed.judged, **parts}


def _criterion(criterion: Criterion, judged: Judged) -> View:
    counts = _counts(judged)
    order = (Verdict.PASS, Verdict.FAIL, Verdict.NOT_ENOUGH_ROWS, Verdict.NOT_MEASURED)
    title = criterion.title + {"group": ", each group", "item": " (the item)"}.get(criterion.of, "")
    return {"title": title, "source": criterion.source, "counts": [f"{counts[verdict]:,}" for verdict in order]}


def _forests(assessed: Assessment, plots: Plots) -> Iterator[View]:
    found, limits = assessed.found["qwk"], _limits(assessed.judged, "qwk")
    for first in range(0, len(assessed.tasks), FOREST_ROWS):
        names = assessed.tasks[first : first + FOREST_ROWS]
        title = "QWK by task" if len(names) == len(assessed.tasks) else f"QWK, {names[0]} to {names[-1]}"
        part = found.take(np.arange(first, first + len(names)))
        yield {"title": title, "svg": plots.forest(names, part, limits, "QWK", title)}


def _limits(judged: dict[Criterion, Judged], statistic: str) -> list[float]:
    own = [criterion for criterion in judged if criterion.statistic == statistic]
    return [limit for c in own for limit in (c.at_least, c.at_most) if limit is not None]


def _groups(groups: Groups | None, task: int) -> Iterator[View]:
    """Yield the groups of a task, −1 for those of all rows."""
    for cell in () if groups is None else np.flatnonzero(groups.task == task):
        assert groups is not None
        judged = worst((Judged(j.verdict[[cell]], j.needed[[cell]]) for j in groups.judged.values()), 1)
        yield {
            "name": _group(groups, cell),
            "rows": f"{int(groups.found['exact'].n[cell]):,}",
            "cells": [shown(groups.found[name], cell) for name in ("exact", "qwk", "smd", "dsm")],
            "verdict": _verdict(judged, 0),
        }


def _group_plots(assessed: Assessment, plots: Plots) -> Iterator[View]:
    groups = assessed.groups
    if groups is not None:
        cells = np.flatnonzero(groups.task < 0)
        names, title = [_group(groups, cell) for cell in cells], "DSM by group, all tasks together"
        svg = plots.forest(names, groups.found["dsm"].take(cells), _limits(groups.judged, "dsm"), "DSM", title)
        yield {"title": title, "svg": svg}


def _failing_groups(assessed: Assessment) -> str:
    groups = assessed.groups
    if groups is None:
        return ""
    fails = np.any([groups.task < -1, *(j.verdict == Verdict.FAIL for j in groups.judged.values())], axis=0)
    named = [
        f"{assessed.tasks[groups.task[c]]} ({_group(groups, c)})" for c in np.flatnonzero(fails & (groups.task >= 0))
    ]
    return f"Groups of a task that fail a criterion: {', '.join(named) or 'none'}."


def _group(groups: Groups, cell: int) -> str:
    return f"{groups.column[cell]}: {groups.value[cell]}"


def _confidence(assessed: Assessment, calibrated: bool, plots: Plots) -> View | None:
    sure = assessed.confidence
    if math.isnan(sure.error[-1]):
        return None
    what = "the calibrated probability of its level" if calibrated else "the greatest of its probabilities"
    sentence = (
        f"The machine's confidence is {what}. The expected calibration error is {sure.error[-1]:.3f}: so far stated "
        "confidence and share of right levels are apart, on average. The second plot shows how the share of wrong "
        "levels falls if the machine keeps only the rows of which it is most confident."
    )
    sentence += _routes(assessed, -1)
    titles = ("Reliability, all rows", "Risk against coverage, all rows")
    drawn = (plots.reliability(sure, -1, titles[0]), plots.risk(sure, -1, titles[1], _policy(assessed, -1)))
    return {"sentence": sentence, "plots": [{"title": t, "svg": s} for t, s in zip(titles, drawn, strict=True)]}


def _policy(assessed: Assessment, cell: int) -> tuple[float, float]:
    return float(assessed.routing.machine[cell]), float(assessed.routing.wrong[cell])


def _routes(assessed: Assessment, cell: int) -> str:
    """Say where the policy stands, what the calibration did, and what more labelled rows would do."""
    routes, said = assessed.routing, ""
    before, after = float(routes.error_before[cell]), float(assessed.confidence.error[cell])
    if before != after and not math.isnan(before):
        said += f" Before the calibration the error was {before:.3f}, now it is {after:.3f}."
    if not math.isnan(routes.machine[cell]):
        said += f" The policy leaves {routes.machine[cell]:.0%} of the rows to the machine (the large dot)"
        wrong = routes.wrong[cell]
        said += "." if math.isnan(wrong) else f"; {wrong:.1%} of their levels are not the human's."
    if (rows := int(assessed.ranges.rows[cell])) > 0:
        held, width = float(assessed.ranges.held[cell]), float(assessed.ranges.width[cell])
        said += f" The range of levels holds the human's in {held:.1%} of {rows:,} rows and has {width:.2f} on average."
    if not math.isnan(routes.people[cell]):
        said += f" A threshold chosen on these rows would send {routes.people[cell]:.0%} to people"
        rows, then = routes.rows[cell], routes.people_then[cell]
        said += "." if math.isnan(rows) else f"; {rows:,.0f} labelled rows would bring that to about {then:.0%}."
    return said


def _row(found: Found, cell: int) -> View:
    return {
        "rows": f"{int(found['exact'].n[cell]):,}",
        "shown": [shown(found[name], cell) for name in _SHOWN],
        "human": shown(found["human_qwk"], cell),
    }


def _task(assessed: Assessment, cell: int, plots: Plots) -> View:
    name, table = assessed.tasks[cell], assessed.confusion[cell]
    title = f"Levels of {name}"
    error = assessed.confidence.error[cell]
    return {
        **_row(assessed.found, cell),
        "name": name,
        "verdict": _verdict(assessed.overall, cell),
        "item": _verdict(assessed.item, cell),
        "needed": rows_in_words(assessed.overall.needed[cell]),
        "reasons": _reasons(assessed, cell),
        "plot": {"title": title, "svg": plots.distributions(table, title)},
        "risk": _risk(assessed, cell, plots),
        "routes": _routes(assessed, cell).strip(),
        "levels": list(range(len(table))),
        "confusion": list(_confusion(table)),
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
    parts = []
    for verdict, words in ((Verdict.FAIL, "fails"), (Verdict.NOT_ENOUGH_ROWS, "not decided")):
        titles = [
            c.title for c, judged in assessed.judged.items() if c.of == "task" and judged.verdict[cell] == verdict
        ]
        groups = assessed.groups
        if groups is not None:
            own = groups.task == cell
            titles += [f"{c.title} of a group" for c, j in groups.judged.items() if (j.verdict[own] == verdict).any()]
        if titles:
            parts.append(f"{words}: {', '.join(titles)}")
    said = "; ".join(parts)
    return f"{said[0].upper()}{said[1:]}." if parts else ""


def _confusion(table: Any) -> Iterator[View]:
    level = np.arange(len(table))
    rows = Ratings.of(np.repeat(level, len(table)), np.tile(level, len(table)))
    weighted = Ratings(**{**vars(rows), "weight": table.ravel().astype(np.float64)})
    agree = estimates([BY_NAME["exact"]], weighted, weighted.human.astype(np.int64), len(table))["exact"]
    for place, counts in enumerate(table):
        yield {"counts": [f"{count:,}" for count in counts], "agree": shown(agree, place)}


def _figures(assessed: Assessment, cell: int) -> Iterator[View]:
    criteria = {criterion.statistic: criterion for criterion in assessed.judged}
    for statistic in STATISTICS:
        found = assessed.found[statistic.name]
        if not found.n[cell]:
            continue
        criterion = criteria.get(statistic.name)
        yield {
            "title": statistic.title,
            **shown(found, cell, digits=3),
            "rows": f"{int(found.n[cell]):,}",
            "criterion": criterion.title if criterion else "",
            "verdict": _verdict(assessed.judged[criterion], cell) if criterion else None,
        }


def _examples(left: Any) -> str:
    return ", ".join(left.examples) + (" …" if left.count > len(left.examples) else "")
