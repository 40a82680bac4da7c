"""Figures, verdicts and names as the page says them."""

from collections.abc import Iterable, Iterator, Sequence
from math import inf, isnan, nan
from typing import Any, NamedTuple

from scoremux_evidence.figures.estimates import Estimates, Figure, Figures, rounded
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
"""A figure of fewer rows is not shown: its interval would say nothing."""

_WIDE = {"share": 0.5, "correlation": 0.5}
"""A figure with a wider interval is unknown, by its scale."""

_POOLED = ("qwk", "gap_qwk", "kept_qwk", "record_qwk", "human_qwk", "degradation_qwk", "dsm")
"""Not shown over several tasks together, whose scales differ."""

EXAMPLES = 5
"""Ids that are named for each reason to leave rows out."""

View = dict[str, Any]


class Cell(NamedTuple):
    """A cell of a table: its text, small print beside or below it, and its style: pass, fail or open."""

    text: str
    small: str = ""
    style: str = ""

    def __str__(self) -> str:
        """Return the text, with its small print if that is an interval."""
        return f"{self.text} {self.small}" if self.small.startswith("[") else self.text


def shown(estimate: Estimates, cell: int, digits: int = 2, sign: str = "") -> Cell:
    """Return a figure and its interval as words; the mean of a single task is none.

    Args:
        sign: `+` to show a plus too.
    """
    value, low, high = estimate.at(cell)
    is_mean = estimate.cells[cell] > 0
    if not is_mean and 0 < estimate.n[cell] < LEAST_SHOWN:
        return Cell("–", f"fewer than {LEAST_SHOWN} rows")
    if isnan(value) or (is_mean and estimate.n[cell] < 2):
        return Cell("–")
    if high - low > _WIDE.get(estimate.scale, inf):
        return Cell("unknown")
    figure = figure_shown(estimate.at(cell), digits, sign)
    return figure._replace(small=figure.small + estimate.of_fewer(cell))


def figure_shown(figure: Figure, digits: int = 2, sign: str = "") -> Cell:
    """Return a figure and its interval as words."""
    text, *ends = (rounded(x, digits, sign).replace("-", "−") for x in figure)
    return Cell(text, "" if isnan(figure.low) else f"[{ends[0]}, {ends[1]}]")


def figures_shown(figures: Figures, cell: int, names: Iterable[str], pooled: bool = False) -> list[Cell]:
    """Return some of a cell's figures as words. pooled: whether the cell has rows of several tasks."""
    return [Cell("") if pooled and name in _POOLED else shown(figures[name], cell) for name in names]


def verdict_shown(judgement: Judgement, cell: int, rows: float = nan) -> Cell:
    """Return a verdict with its sign and style. rows: that it rests on, to say how many would decide; NaN: say not."""
    verdict = Verdict(int(judgement.verdict[cell]))
    style, sign = STYLES[verdict]
    needed = rows_in_words(judgement.needed[cell], rows)
    return Cell(f"{sign} {verdict}".strip(), f"({needed} rows)" if needed[:1].isdigit() else "", style)


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
