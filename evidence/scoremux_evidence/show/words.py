"""Figures, verdicts and names as the page says them."""

from collections.abc import Iterable, Iterator, Sequence
from math import isnan, nan
from typing import Any

from scoremux_evidence.figures.estimates import Estimates, Figures, rounded
from scoremux_evidence.rows.table import Reasons
from scoremux_evidence.verdicts.groups import Groups
from scoremux_evidence.verdicts.verdicts import Judgement, Verdict, rows_in_words

STYLES = {
    Verdict.PASS: ("pass", "✓"),
    Verdict.FAIL: ("fail", "✗"),
    Verdict.NOT_ENOUGH_LEVELS: ("open", "…"),
    Verdict.NOT_ENOUGH_ROWS: ("open", "…"),
    Verdict.NOT_MEASURED: ("open", ""),
}
LEAST_SHOWN = 10
"""A figure of fewer rows is not shown: its interval would say nothing, and a group could be a single class."""

_POOLED = ("qwk", "gap_qwk", "kept_qwk", "record_qwk", "human_qwk")
"""Not shown over several tasks together, whose scales differ."""

EXAMPLES = 5
"""Ids that are named for each reason to leave rows out."""

View = dict[str, Any]


def shown(estimate: Estimates, cell: int, digits: int = 2) -> View:
    """Return a figure and its interval as words; the mean of a single task is none."""
    value, low, high = estimate.at(cell)
    is_mean = estimate.cells[cell] > 0
    if not is_mean and 0 < estimate.n[cell] < LEAST_SHOWN:
        return {"value": "–", "interval": f"fewer than {LEAST_SHOWN} rows"}
    if isnan(value) or (is_mean and estimate.n[cell] < 2):
        return {"value": "–", "interval": ""}
    words = [rounded(x, digits).replace("-", "−") for x in (value, low, high)]
    interval = "" if isnan(low) else f"[{words[1]}, {words[2]}]"
    return {"value": words[0], "interval": interval + estimate.of_fewer(cell)}


def figures_shown(figures: Figures, cell: int, names: Iterable[str], pooled: bool = False) -> list[View]:
    """Return some of a cell's figures as words. pooled: whether the cell has rows of several tasks."""
    none = {"value": "", "interval": ""}
    return [none if pooled and name in _POOLED else shown(figures[name], cell) for name in names]


def verdict_shown(judgement: Judgement, cell: int, rows: float = nan) -> View:
    """Return a verdict's style, sign and words. rows: that it rests on, to say how many would decide; NaN: say not."""
    verdict = Verdict(int(judgement.verdict[cell]))
    style, sign = STYLES[verdict]
    return {"style": style, "sign": sign, "words": str(verdict), "needed": rows_in_words(judgement.needed[cell], rows)}


def rows_shown(figures: Figures, cell: int) -> str:
    return f"{int(figures['exact'].n[cell]):,}"


def group_shown(groups: Groups, cell: int) -> str:
    return f"{groups.column[cell]}: {groups.value[cell]}"


def left_out_shown(left_out: Reasons) -> Iterator[View]:
    """Yield why rows are left out, how many, and some of their ids."""
    for reason, rows in left_out.items():
        more = " …" if len(rows) > EXAMPLES else ""
        yield {"reason": reason, "count": f"{len(rows):,}", "examples": ", ".join(examples(rows)) + more}


def examples(rows: Sequence[str]) -> list[str]:
    """Return the first of some ids or places."""
    return [str(name) for name in rows[:EXAMPLES]]
