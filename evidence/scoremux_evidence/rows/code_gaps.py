"""Condition codes that one group of students has more often than the others: a rule may be unfair to the group."""

from collections.abc import Iterator, Mapping

import numpy as np

from scoremux_files.rows.codes import Codes

_LEAST_STUDENTS, _LEAST_GAP, _ERRORS = 10, 0.05, 3
"""A gap is named from so many students, so many points and so many standard errors on."""


def code_gaps(condition: Codes, student: Codes | None, groups: Mapping[str, Codes]) -> Iterator[str]:
    """Yield a sentence for each code that a group has more often than all others.

    Args:
        condition: The code of each scored row, whether or not the row has a level.
        student: Who wrote it; None counts each row as another student.
    """
    who = np.arange(len(condition.code)) if student is None else student.code
    for column, group in groups.items():
        for place, value in enumerate(group.values):
            members = [group.code == place, (group.code >= 0) & (group.code != place)]
            students = np.array([len(np.unique(who[of])) for of in members])
            if students.min() < _LEAST_STUDENTS:
                continue
            rows = np.array([of.sum() for of in members])
            for number, code in enumerate(condition.values):
                coded = np.array([(condition.code[of] == number).sum() for of in members])
                # Agresti and Caffo (2000). Rows of one student may all have the code, so students are counted.
                share = (coded / rows * students + 1) / (students + 2)
                error = float(np.sqrt((share * (1 - share) / (students + 2)).sum()))
                if code and share[0] - share[1] > max(_ERRORS * error, _LEAST_GAP):
                    own, others = coded / rows
                    of_rows = f"{own:.0%} of {rows[0]:,} rows have the code {code}"
                    yield f"{column}: {value}: {of_rows}, of others {others:.0%}"
