"""The values of the page about one task."""

from collections.abc import Iterator
from math import isnan

from scoremux_evidence.figures.agreement import STATISTICS
from scoremux_evidence.rows.table import Ints
from scoremux_evidence.show.plots import risk_plot
from scoremux_evidence.show.report_tables import criteria_with, group_verdicts, rows_needed
from scoremux_evidence.show.words import View, shown, verdict_shown
from scoremux_evidence.verdicts.assessment import MOST_DROPPED, Assessment
from scoremux_evidence.verdicts.verdicts import Verdict

_REASONS = {
    Verdict.FAIL: "fails",
    Verdict.NOT_ENOUGH_LEVELS: "people gave one level only for",
    Verdict.NOT_ENOUGH_ROWS: "not decided",
    Verdict.NOT_MEASURED: "not measured",
}


def task_view(assessed: Assessment, cell: int) -> View:
    """Return the values of the template that are about one task, a row of its tables included."""
    name = assessed.tasks[cell]
    levels = assessed.by_level[cell]
    risk = f"Risk against coverage, {name}"
    error = assessed.confidence.error[cell]
    return {
        "name": name,
        "verdict": verdict_shown(assessed.overall, cell),
        "needed": rows_needed(assessed, cell),
        "reasons": _reasons(assessed, cell),
        "risk": None if isnan(error) else risk_plot(assessed.confidence, cell, risk, policy_of(assessed, cell)),
        "routing": routes_in_words(assessed, cell).strip(),
        "levels": list(levels.levels),
        "confusion": _shown(levels.confusion),
        "humans": _shown(levels.humans) if levels.humans.any() else [],
        "exact": [shown(levels.exact, place) for place in range(len(levels.levels))],
        "figures": list(_figures(assessed, cell)),
        "groups": group_verdicts(assessed.groups, cell),
        "versions": assessed.versions[cell],
        "calibration": "" if isnan(error) else f"{error:.3f}",
    }


def _shown(table: Ints) -> list[list[str]]:
    return [[f"{count:,}" for count in counts] for counts in table]


def policy_of(assessed: Assessment, cell: int) -> tuple[float, float]:
    """Return the share of rows that the policy leaves to the machine, and that of wrong levels among them."""
    return float(assessed.routing.machine[cell]), float(assessed.routing.wrong[cell])


def routes_in_words(assessed: Assessment, cell: int) -> str:
    """Say where the policy stands."""
    routing = assessed.routing
    parts = []
    if not isnan(routing.machine[cell]):
        share = f"{routing.machine[cell]:.0%}"
        wrong = routing.wrong[cell]
        wrong_levels = "" if isnan(wrong) else f"; {wrong:.1%} of their levels are not the human's"
        parts.append(f"The policy leaves {share} of the rows to the machine (the large dot){wrong_levels}.")
    if (rows := int(assessed.ranges.rows[cell])) > 0:
        covered = f"{assessed.ranges.held[cell]:.1%}"
        width = f"{assessed.ranges.width[cell]:.2f}"
        parts.append(f"The range of levels holds the human's in {covered} of {rows:,} rows and has {width} on average.")
    return "".join(f" {part}" for part in parts)


def _reasons(assessed: Assessment, cell: int) -> str:
    """Say which criteria fail and which are not decided."""
    by_verdict = ((words, criteria_with(verdict, assessed, cell)) for verdict, words in _REASONS.items())
    parts = [f"{words}: {', '.join(titles)}" for words, titles in by_verdict if titles]
    if not parts and assessed.overall.verdict[cell] == Verdict.NOT_ENOUGH_ROWS:
        parts.append("passes each criterion, but not after Holm's correction for the number of tasks")
    if assessed.dropped[cell] > MOST_DROPPED:
        parts.append(f"{assessed.dropped[cell]:.0%} of the rows were left out for what people gave them")
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}." if parts else ""


def _figures(assessed: Assessment, cell: int) -> Iterator[View]:
    criteria = {criterion.statistic: criterion for criterion in assessed.judged}
    for statistic in STATISTICS:
        estimate = assessed.figures[statistic.name]
        if not estimate.n[cell]:
            continue
        criterion = criteria.get(statistic.name)
        yield {
            "title": statistic.title,
            "figure": shown(estimate, cell, digits=3),
            "rows": f"{int(estimate.n[cell]):,}",
            "criterion": criterion.title if criterion else "",
            "verdict": verdict_shown(assessed.judged[criterion], cell, estimate.n[cell]) if criterion else None,
        }
