"""Drills: how often a copy of a text that was changed without a reason for more gets a higher level than the text.

`scoremux score --drills` makes the copies and scores them. Rows at the highest level of their task can gain nothing and
do not count. A copy that gets a condition code gains nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scoremux_assess.conclusions.verdicts import Criterion, Judgement, Verdict, judge, worst
from scoremux_assess.labels.ratings import Ints
from scoremux_assess.statistics.estimates import Estimates, wilson
from scoremux_files.errors import InputError, reading
from scoremux_files.rows.columns import encode, number_lists, numbers, present_columns
from scoremux_files.rows.writers import DRILLS, JOURNAL, beside_parts

_ENDED = re.compile(r'^\{"source": 1,.*\}\n\Z', re.MULTILINE)
"""The end of the journal of a job that has scored its only source."""


@dataclass(frozen=True)
class Drills:
    """Tasks times drills, one a cell.

    Attributes:
        task, drill: Places among the tasks of the assessment and among `DRILLS`.
        raised: The share of copies that gain a level.
    """

    task: Ints
    drill: Ints
    raised: Estimates
    judged: dict[Criterion, Judgement]

    def overall(self) -> Judgement:
        """Return the verdicts on all criteria together."""
        return worst(self.judged.items(), len(self.task))

    def fail(self, tasks: Judgement) -> Judgement:
        """Return the verdicts of tasks with FAIL where a drill fails: most have too few rows for anything else."""
        fails = np.isin(np.arange(len(tasks.verdict)), self.task[self.overall().verdict == Verdict.FAIL])
        verdict = np.where(fails, Verdict.FAIL, tasks.verdict).astype(np.int8)
        return replace(tasks, verdict=verdict, needed=np.where(fails, np.nan, tasks.needed))


def measure_drills(output: Path, tasks: Sequence[str], criteria: Sequence[Criterion]) -> Drills | None:
    """Read and judge the drills of an output; None without any. Raises InputError where they have not ended."""
    folder = beside_parts(output, "drills")
    if not folder.is_dir():
        return None
    journal = beside_parts(folder, JOURNAL)
    with reading(journal):
        if not (journal.exists() and _ENDED.search(journal.read_text("utf-8"))):
            raise InputError(f"{folder} has no complete drills; run `scoremux score --drills` again, or remove it")
    names = ("task", "drill", "before", "status", "level", "probabilities")
    columns = present_columns(folder, names, names)
    task, drill, status = (encode(columns[name]) for name in names[:2] + names[3:4])
    before, level = (numbers(columns[name]) for name in ("before", "level"))
    task = task.renamed(lambda name: name.partition("@")[0])
    highest = np.zeros(len(task.values))
    np.maximum.at(highest, task.code, np.maximum(before, number_lists(columns["probabilities"])[1] - 1))
    place = np.array([tasks.index(name) if name in tasks else -1 for name in task.values], np.int64)[task.code]
    cell = place * len(DRILLS) + np.array([DRILLS.index(name) for name in drill.values])[drill.code]
    scored = status.code == status.place("OK")
    counts = (scored | (status.code == status.place("CONDITION"))) & (before < highest[task.code]) & (place >= 0)
    cells, raised = len(tasks) * len(DRILLS), counts & scored & (level > before)
    rows, gained = (np.bincount(cell[kept], minlength=cells).astype(np.float64) for kept in (counts, raised))
    share = np.where(rows > 0, gained / np.maximum(rows, 1), np.nan)
    estimate = Estimates(share, *wilson(share, rows, rows, rows, rows - 1), rows, "share")
    judged = {criterion: judge(criterion, estimate) for criterion in criteria if criterion.of == "drill"}
    return Drills(*np.divmod(np.arange(cells), len(DRILLS)), estimate, judged)
