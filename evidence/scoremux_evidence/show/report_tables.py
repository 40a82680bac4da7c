"""The tables of a report. Each is made once here, and shown on the page, on the terminal and as CSV."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import NamedTuple

import numpy as np
from rich.console import Console

from scoremux_evidence.figures.estimates import Figures
from scoremux_evidence.rows.table import LEAST_STUDENTS
from scoremux_evidence.show.words import Cell, figure_shown, figures_shown, group_shown, shown, verdict_shown
from scoremux_evidence.verdicts.assessment import Assessment
from scoremux_evidence.verdicts.comparison import ALL, MEAN, Comparison
from scoremux_evidence.verdicts.groups import Groups
from scoremux_evidence.verdicts.items import OF_TOTAL
from scoremux_evidence.verdicts.totals import Totals
from scoremux_evidence.verdicts.verdicts import Verdict, rows_in_words, worst
from scoremux_files.terminal import print_table

_ZERO = re.compile(r"(?<![\d.])0\.")
"""What a terminal has no room for."""

DECIDED = (Verdict.FAIL, Verdict.NOT_ENOUGH_LEVELS, Verdict.NOT_ENOUGH_ROWS)
"""Verdicts that count where a criterion is not required, too."""

ROUTES = {
    "To people": "people",
    "All: exact": "exact",
    "All: QWK": "qwk",
    "Machine's: exact": "kept_exact",
    "Machine's: QWK": "kept_qwk",
    "Record: exact": "record_exact",
    "Record: QWK": "record_qwk",
}
"""All machine scores, the machine's share and the score of record, by title."""

GROUPS = {
    "Exact": "exact",
    "Gap in exact": "gap_exact",
    "QWK": "qwk",
    "Gap in QWK": "gap_qwk",
    "SMD": "smd",
    "DSM": "dsm",
}
GROUP_MEANS = {
    "People: exact": "human_exact",
    "People: QWK": "human_qwk",
    "Degradation": "degradation_qwk",
    "People: mean": "human_mean",
    "People: SD": "human_sd",
    "Machine: mean": "machine_mean",
    "Machine: SD": "machine_sd",
    "Below": "below",
    "Above": "above",
}
"""Agreement of two people, and how much less the machine has on the same rows; means and deviations; shares of
rows where the machine is below and above people."""

_HALO = {"People": "people", "Across": "across", "Machine": "machine", "Machine − across": "difference"}
"""Correlations of two traits, by title."""

TO_PASTE = {
    "Mean of people": "human_mean",
    "SD of people": "human_sd",
    "Mean of machine": "machine_mean",
    "SD of machine": "machine_sd",
    "SMD": "smd",
    "Exact": "exact",
    "Adjacent": "adjacent",
    "QWK": "qwk",
    "r": "r",
    "Two people: exact": "human_exact",
    "Two people: adjacent": "human_adjacent",
    "Two people: QWK": "human_qwk",
    "Two people: r": "human_r",
}
"""What a technical report has of each task (Standards 2.7 and 4.19)."""


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is its name.

    Attributes:
        words: Columns that hold words, not figures.
        leave_out: Columns that a narrow terminal leaves out first, in this order.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: Collection[str] = ()
    leave_out: Sequence[str] = field(default_factory=tuple)

    def print(self, console: Console, notes: Sequence[str] = ()) -> None:
        """Print the table, with sentences below it."""
        cells = [[_ZERO.sub(".", str(cell)) for cell in row] for row in self.rows]
        print_table(
            console,
            self.columns,
            cells,
            title=self.title,
            numbers={*self.columns[1:]} - {*self.words},
            leave_out=self.leave_out,
            fold=self.columns[:1],
            styles=[{"pass": "green", "fail": "red", "open": "bright_black"}.get(row[1].style) for row in self.rows],
            box=False,
            notes=notes,
        )


class _Line(NamedTuple):
    """A line of a table: a cell of some figures.

    Attributes:
        unit: Of what the figures are a mean; empty for rows.
        is_pooled: Whether it has rows of several tasks.
        is_hidden: Whether it is a group of fewer than `LEAST_STUDENTS` students.
    """

    name: str
    figures: Figures
    cell: int
    unit: str = ""
    is_pooled: bool = False
    is_hidden: bool = False

    def rows(self) -> Cell:
        """Return of how many rows, or tasks, the figures are."""
        if self.is_hidden:
            return Cell(f"< {LEAST_STUDENTS}")
        return Cell(f"{int(self.figures['exact'].n[self.cell]):,}{self.unit}")

    def shown(self, statistics: Mapping[str, str]) -> list[Cell]:
        """Return some of the figures. statistics: names by title."""
        if self.is_hidden:
            return [Cell("–", f"fewer than {LEAST_STUDENTS} students")] * len(statistics)
        return figures_shown(self.figures, self.cell, statistics.values(), self.is_pooled)


def lines_of_tasks(assessed: Assessment) -> list[_Line]:
    """Return a line for each task, one for all rows, and one for the mean of several tasks."""
    several = len(assessed.tasks) > 1
    lines = [_Line(name, assessed.figures, cell) for cell, name in enumerate(assessed.tasks)]
    lines.append(_Line(ALL, assessed.figures, -1, is_pooled=several))
    if several:
        lines.append(_Line(MEAN, assessed.means, 0, unit=" tasks"))
    return lines


def lines_of_groups(groups: Groups, task: int = -1) -> Iterator[_Line]:
    """Yield a line for each group of a task; −1: of all rows, each followed by its mean of tasks."""
    several = task < 0 and bool((groups.task > 0).any())
    for place, cell in enumerate(np.flatnonzero(groups.task == task)):
        is_hidden = groups.students[cell] < LEAST_STUDENTS
        yield _Line(group_shown(groups, cell), groups.figures, cell, is_pooled=several, is_hidden=is_hidden)
        if several:
            yield _Line(f"  {MEAN}", groups.means, place, unit=" tasks")


def figures_table(title: str, first: str, lines: Sequence[_Line], statistics: Mapping[str, str]) -> Table:
    """Return a table of statistics. first: the title of the column of names; statistics: names by title."""
    rows = [[Cell(line.name), line.rows(), *line.shown(statistics)] for line in lines]
    leave_out = (*(name for name in statistics if "QWK" in name), "SMD", "Gap in exact")
    return Table(title, (first, "Rows", *statistics), rows, leave_out=leave_out)


def tasks_table(assessed: Assessment) -> Table:
    """Return the verdict of each task, and the figures that a reader looks at first."""
    has_students = assessed.students is not None
    has_second = bool(assessed.figures["human_qwk"].n[-1])
    statistics = {"QWK": "qwk", "Exact": "exact", "SMD": "smd"}
    columns = ["Task", "Verdict", "Rows", *statistics, *(["Students"] if has_students else []), "Rows needed"]
    columns += ["QWK of humans", "Two people"] if has_second else []
    rows = []
    for place, line in enumerate(lines_of_tasks(assessed)):
        is_task = place < len(assessed.tasks)
        row = [Cell(line.name), task_verdict(assessed, place) if is_task else Cell(""), line.rows()]
        row += line.shown(statistics)
        if has_students:
            row.append(Cell("" if line.unit else f"{assessed.students[line.cell]:,}"))  # type: ignore[index]
        needed = rows_needed(assessed, place) if is_task else ""
        row.append(Cell(needed))
        if has_second:
            row += [*line.shown({"": "human_qwk"}), verdict_shown(assessed.item, place) if is_task else Cell("")]
        rows.append(row)
    leave_out = ("Two people", "QWK of humans", "Rows needed", "SMD", "Exact", "Students", "Rows")
    return Table("", columns, rows, words=("Verdict", "Two people"), leave_out=leave_out)


def items_table(assessed: Assessment) -> Table:
    """Return the total of each item, and its halo."""
    rows = []
    for item in assessed.items:
        total = [Cell(f"{int(item.figures['qwk'].n[0]):,}"), *figures_shown(item.figures, 0, OF_TOTAL.values())]
        halo = [figure_shown(item.halo[name]) if item.halo else Cell("–") for name in _HALO.values()]
        halo[-1] = halo[-1]._replace(style="fail" if item.has_halo else "")
        rows.append([Cell(item.item), *total, Cell("–" if isnan(item.reach) else f"± {item.reach:g}"), *halo])
    columns = ("Item", "Responses", *OF_TOTAL, "Range", *_HALO)
    return Table("", columns, rows, leave_out=("r", "SMD", "Within 1", "Machine", "Across", "People"))


def traits_table(assessed: Assessment) -> Table:
    """Return whether each trait tells more than the item's total."""
    gains = ((f"{item.item}.{trait}", gain) for item in assessed.items for trait, gain in item.gains.items())
    rows = [[Cell(name), Cell("yes" if gain.value > 0 else "no"), figure_shown(gain)] for name, gain in gains]
    return Table("", ("Trait", "Alone", "r² above the total's"), rows, words=("Alone",))


def rows_needed(assessed: Assessment, cell: int) -> str:
    """Say how many rows would decide a task's verdict; empty where it is decided."""
    return rows_in_words(assessed.overall.needed[cell], assessed.figures["exact"].n[cell])


def task_verdict(assessed: Assessment, cell: int) -> Cell:
    """Return the verdict of a task; in small print that in this file where it is another, and what fails."""
    verdict = Verdict(int(assessed.overall.verdict[cell]))
    in_file = Verdict(int(assessed.of_file.verdict[cell]))
    notes = [] if verdict == in_file else [f"in this file: {in_file}"]
    if fails := criteria_with(Verdict.FAIL, assessed, cell):
        notes.append(f"fails: {', '.join(fails)}")
    return verdict_shown(assessed.overall, cell)._replace(small="; ".join(notes))


def criteria_with(verdict: Verdict, assessed: Assessment, cell: int) -> list[str]:
    """Return the criteria of a task and its groups that have a verdict."""
    groups = assessed.groups
    judged = ((c, j) for c, j in assessed.judged.items() if c.of == "task")
    titles = [c.title for c, j in judged if j.verdict[cell] == verdict and (c.required or verdict in DECIDED)]
    if verdict is not Verdict.NOT_MEASURED:
        of_groups = ((c, j.verdict[groups.task == cell]) for c, j in groups.judged.items())
        titles += [f"{c.title} of a group" for c, verdicts in of_groups if (verdicts == verdict).any()]
    return titles


def group_verdicts(groups: Groups, task: int) -> Table:
    """Return the groups of a task with their verdicts."""
    table = figures_table("", "Group", [*lines_of_groups(groups, task)], GROUPS)
    rows = []
    for row, cell in zip(table.rows, np.flatnonzero(groups.task == task), strict=True):
        judged = worst(((c, j.take(np.array([cell]))) for c, j in groups.judged.items()), 1)
        rows.append([*row, verdict_shown(judged, 0, groups.figures["exact"].n[cell])])
    return Table("", (*table.columns, "Verdict"), rows, words=("Verdict",))


def table_to_paste(assessed: Assessment) -> Table:
    """Return what a technical report has of each task, and the per cent of rows at each level, not weighted."""
    rows = []
    for cell, line in enumerate(lines_of_tasks(assessed)[: len(assessed.tasks)]):
        levels = assessed.by_level[cell]
        people, machine = levels.confusion.sum(axis=1), levels.confusion.sum(axis=0)
        total = max(int(people.sum()), 1)
        shares = [f"{p / total:.0%} / {m / total:.0%}" for p, m in zip(people, machine, strict=True)]
        of_levels = [f"{level}: {share}" for level, share in zip(levels.levels, shares, strict=True)]
        figures = [cell._replace(small="") for cell in line.shown(TO_PASTE)]
        rows.append([Cell(line.name), line.rows(), *figures, Cell(", ".join(of_levels))])
    columns = ("Task", "N", *TO_PASTE, "Per cent at each level, people / machine")
    return Table("", columns, rows, words=(columns[-1],))


def comparison_table(comparison: Comparison) -> Table:
    """Return how many levels moved, and how agreement changed, by task and group."""
    changes = {"Δ exact": "exact", "Δ QWK": "qwk"} if comparison.changes else {}
    columns = ("Task", "Rows", "Moved", "Up", "Down", "≥2", *changes)
    rows = []
    for cell, name in enumerate(comparison.names):
        count = f"{int(comparison.shares['moved'].n[cell]):,}{' tasks' if name == MEAN else ''}"
        if count == "0":
            rows.append([Cell(name), Cell(f"< {LEAST_STUDENTS}"), *[Cell("–")] * (len(columns) - 2)])
            continue
        shares = [Cell(f"{comparison.shares[share].value[cell]:.1%}") for share in ("up", "down", "far")]
        moved = shown(comparison.shares["moved"], cell)
        differences = [shown(comparison.changes[change], cell, sign="+") for change in changes.values()]
        rows.append([Cell(name), Cell(count), moved, *shares, *differences])
    return Table("", columns, rows, leave_out=("Down", "Up", "≥2", "Δ exact", "Rows"))


def changed_totals_table(before: Totals, after: Totals) -> Table:
    """Return at each cut how many students pass, by people and by two outputs, and whose result changes."""
    old, new = before.by["machine"], after.by["machine"]
    mean = (before.moments("people")[0], before.moments("machine")[0], after.moments("machine")[0])
    rows = [[Cell("Mean total"), *(Cell(f"{of:.2f}") for of in mean), Cell("")]]
    passing = (before.passing("people"), before.passing("machine"), after.passing("machine"))
    for cut, *shares in zip(before.cuts, *passing, strict=True):
        changed = float(((old >= cut) != (new >= cut)).mean())
        rows.append([Cell(f"Pass from {cut:g}"), *(Cell(f"{share:.1%}") for share in (*shares, changed))])
    title = f"Totals of {len(old):,} of {before.students:,} students, who have a row in each task:"
    return Table(title, ("Total", "People", "Old", "New", "Other result"), rows)
