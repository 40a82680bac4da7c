"""Condition codes that one group of students has more often than the others: a rule may be unfair to the group."""

from collections.abc import Iterator, Mapping

import numpy as np

from scoremux_evidence.rows.table import LEAST_STUDENTS, Ints, Values, own_numbers, undefined
from scoremux_files.rows.codes import Codes

_LEAST_GAP, _ERRORS = 0.05, 3
"""A gap is named from so many points and so many standard errors on."""

_LEAST_KNOWN = 0.8
"""With the group of fewer of the scored rows nothing is said: rows that people read are no sample of the codes."""


def code_gaps(condition: Codes, student: Codes | None, groups: Mapping[str, Codes]) -> Iterator[str]:
    """Yield a sentence for each code that a group has more often than all others.

    Args:
        condition: The code of each scored row, whether or not the row has a level.
        student: Who wrote it; None counts each row as another student.
    """
    who = np.arange(len(condition.code)) if student is None else own_numbers(student.code)
    for column, group in groups.items():
        known = np.flatnonzero(group.code >= 0)
        if len(known) < _LEAST_KNOWN * len(group.code):
            continue
        of_row, coded_as = group.code[known], condition.code[known]
        writers = np.unique(np.stack([of_row, who[known]]), axis=1)

        def beside(codes: Values, size: int = len(group.values)) -> Ints:
            """Return how many are of each group and of all others, [2, G]."""
            counts = np.bincount(codes, minlength=size)
            return np.stack([counts, counts.sum() - counts])

        rows, students = beside(of_row), beside(writers[0])
        for number, code in enumerate(condition.values):
            with undefined():
                rate = beside(of_row[coded_as == number]) / rows
            # Agresti and Caffo (2000). Rows of one student may all have the code, so students are counted.
            share = (rate * students + 1) / (students + 2)
            error = np.sqrt((share * (1 - share) / (students + 2)).sum(axis=0))
            is_gap = (share[0] - share[1] > np.maximum(_ERRORS * error, _LEAST_GAP)) & bool(code)
            for place in np.flatnonzero(is_gap & (students.min(axis=0) >= LEAST_STUDENTS)):
                own, others = rate[:, place]
                of_rows = f"{own:.0%} of {rows[0, place]:,} rows have the code {code}"
                yield f"{column}: {group.values[place]}: {of_rows}, of others {others:.0%}"
