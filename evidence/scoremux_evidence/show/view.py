"""The content of the page, as words: an assessment turned into the values of the template."""

import math

import numpy as np

from scoremux_evidence.rows.matching import Matched
from scoremux_evidence.show.plots import reliability_plot, risk_plot
from scoremux_evidence.show.report_tables import (
    GROUP_MEANS,
    GROUPS,
    ROUTES,
    Table,
    figures_table,
    items_table,
    lines_of_groups,
    lines_of_tasks,
    table_to_paste,
    tasks_table,
    traits_table,
)
from scoremux_evidence.show.task_view import policy_of, routes_in_words, task_view
from scoremux_evidence.show.words import Cell, View, figures_shown, group_shown, left_out_shown, shown
from scoremux_evidence.verdicts.assessment import Assessment
from scoremux_evidence.verdicts.totals import FIGURES, Totals
from scoremux_evidence.verdicts.verdicts import MOST_WRONG, Criterion, Judged, Judgement, Verdict

FOLD_ABOVE = 10
"""With more tasks than this, each is folded on the screen. Print shows all."""


def view(assessed: Assessment, matched: Matched) -> View:
    """Return the values of the template `page.html`."""
    routed = bool(assessed.figures["people"].n[-1])
    counts = _counts(assessed.overall)
    groups = [*lines_of_groups(assessed.groups)]
    by = (("Task", lines_of_tasks(assessed)), ("Group", groups))
    return {
        "folded": len(assessed.tasks) > FOLD_ABOVE,
        "too_small": counts[Verdict.NOT_ENOUGH_ROWS] + counts[Verdict.NOT_ENOUGH_LEVELS] == len(assessed.tasks),
        "summary": _summary(assessed, len(matched)),
        "criteria": [_criterion(c, judged) for c, judged in _all_judged(assessed).items()],
        "errors": f"No other task has a part in a task's verdict: a task passes wrongly in {MOST_WRONG:.0%} "
        f"of cases at most, and fails wrongly in {MOST_WRONG / 2:.1%}. A verdict “in this file” is corrected for the "
        f"number of tasks (Holm 1979): there the chance of a single wrong PASS among {len(assessed.tasks):,} tasks is "
        f"{MOST_WRONG:.0%} at most, that of a single wrong FAIL {MOST_WRONG / 2:.1%}.",
        "verdicts": tasks_table(assessed),
        "to_paste": table_to_paste(assessed),
        "groups": [figures_table("", "Group", groups, statistics) for statistics in (GROUPS, GROUP_MEANS) if groups],
        "routes": [figures_table("", first, lines, ROUTES) for first, lines in by if lines] if routed else [],
        "routed": _routed(assessed) if routed else "",
        "totals": _totals(assessed.totals),
        "items": [items_table(assessed), traits_table(assessed)] if assessed.items else [],
        "failing_groups": _failing_groups(assessed),
        "code_gaps": matched.code_gaps,
        "confidence": _confidence(assessed, bool(matched.rows.calibrated.any())),
        "left_out": [*left_out_shown(matched.rows.left_out)],
        "tasks": [task_view(assessed, cell) for cell in range(len(assessed.tasks))],
        "population": matched.population,
        "second_human_note": _doubly(assessed, len(matched)),
        "unit": "student" if "student" in matched.rows else "row",
    }


def _summary(assessed: Assessment, rows: int) -> str:
    counts = _counts(assessed.overall)
    parts = (f"{counts[verdict]} {words}" for verdict, words in _IN_WORDS.items() if counts[verdict])
    return f"{len(assessed.tasks):,} tasks: {', '.join(parts)}. {rows:,} rows have a score and a human's level."


_IN_WORDS = {
    Verdict.PASS: "passed",
    Verdict.FAIL: "failed",
    Verdict.NOT_ENOUGH_LEVELS: "with human levels of one value only",
    Verdict.NOT_ENOUGH_ROWS: "without enough rows for a verdict",
    Verdict.NOT_MEASURED: "without a measurement that is required",
}


def _counts(judgement: Judgement) -> dict[Verdict, int]:
    return {verdict: int((judgement.verdict == verdict).sum()) for verdict in Verdict}


def _all_judged(assessed: Assessment) -> Judged:
    groups = assessed.groups
    return assessed.judged | {c: j.take(groups.task >= 0) for c, j in groups.judged.items()}


def _criterion(criterion: Criterion, judgement: Judgement) -> View:
    counts = _counts(judgement)
    title = criterion.title + {"group": ", each group", "item": " (the item)"}.get(criterion.of, "")
    return {"title": title, "source": criterion.source, "counts": [f"{counts[verdict]:,}" for verdict in _IN_WORDS]}


def _doubly(assessed: Assessment, rows: int) -> str:
    """Say which rows two humans read, and how they differ from the others."""
    exact = assessed.figures["exact"]
    double = assessed.figures["double_exact"]
    if not double.n[-1]:
        return ""
    return (
        f"Two humans read {double.n[-1] / rows:.0%} of the rows. There the machine agrees exactly with the first human "
        f"in {double.value[-1]:.1%}, in all rows in {exact.value[-1]:.1%}."
    )


def _routed(assessed: Assessment) -> str:
    """Say which rows each of the three kinds of scores is about."""
    figures = assessed.figures
    all_rows, kept_rows, record_rows = (int(figures[name].n[-1]) for name in ("people", "kept_exact", "record_exact"))
    return (
        f"All machine scores: what the machine gave every response ({all_rows:,} rows). The machine's share: the rows "
        f"that the policy leaves to it ({kept_rows:,}). The score of record: the machine's level there and a person's "
        f"elsewhere, compared with another person's level ({record_rows:,} rows): of the rows sent to people, those "
        "that two people read stand for all, and without any the score of record is not measured. Adjudication is not "
        "counted."
    )


def _totals(totals: Totals | str) -> View | None:
    if isinstance(totals, str):
        return {"why": totals} if totals else None
    kinds = []
    for name in totals.by:
        figures = figures_shown(totals.figures[name], 0, FIGURES) if name in totals.figures else [Cell("")] * 3
        kinds.append([Cell(name), *(Cell(f"{moment:.2f}") for moment in totals.moments(name)), *figures])
    cuts = []
    for place, cut in enumerate(totals.cuts):
        row = [Cell(f"{cut:g}"), Cell(f"{totals.passing('people')[place]:.1%}")]
        for name, same in totals.same.items():
            row += [Cell(f"{totals.passing(name)[place]:.1%}"), shown(same, place)]
        cuts.append(row)
    names = [title for name in totals.same for title in (name, f"{name}: as by the other")]
    return {
        "students": f"{len(totals.by['people']):,} of {totals.students:,}",
        "why": "",
        "tables": [
            Table("", ("Scores", "Mean", "SD", "SMD", "QWK", "r"), kinds),
            Table("", ("Needed", "People", *names), cuts),
        ],
    }


def _failing_groups(assessed: Assessment) -> str:
    groups = assessed.groups
    if not groups.value:
        return ""
    verdicts = [judgement.verdict for judgement in groups.judged.values()]
    cells = [cell for cell in np.flatnonzero(groups.task >= 0) if any(v[cell] == Verdict.FAIL for v in verdicts)]
    names = [f"{assessed.tasks[groups.task[cell]]} ({group_shown(groups, cell)})" for cell in cells]
    return f"Groups of a task that fail a criterion: {', '.join(names) or 'none'}."


def _confidence(assessed: Assessment, calibrated: bool) -> View | None:
    reliability = assessed.confidence
    error = reliability.error[-1]
    if math.isnan(error):
        return None
    what = "the calibrated probability of its level" if calibrated else "the greatest of its probabilities"
    sentence = (
        f"The machine's confidence is {what}. The expected calibration error is {error:.3f} over all rows "
        f"(mean of tasks: {np.nanmean(reliability.error[:-1]):.3f}): how far stated confidence and share of right "
        "levels are apart, on average. The second plot shows how the share of wrong levels falls, with 95 % intervals, "
        "if the machine keeps only the rows of which it is most confident."
    )
    plot_views = [
        reliability_plot(reliability, -1, "Reliability, all rows"),
        risk_plot(reliability, -1, "Risk against coverage, all rows", policy_of(assessed, -1)),
    ]
    return {"sentence": sentence + routes_in_words(assessed, -1), "plots": plot_views}
