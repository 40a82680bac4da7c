"""Scores as measurements: agreement with human raters, its intervals, verdicts against criteria, reports.

`figures` needs numpy only; reading files, and the page of a report, need the extra `assess`. To measure rows of
your own:

>>> import numpy as np
>>> from scoremux_evidence.figures.intervals import estimates
>>> from scoremux_evidence.rows.table import rated
>>> from scoremux_evidence.figures.agreement import BY_NAME
>>> ratings, task = rated(human=[0, 1, 2, 2, 1, 0], machine=[0, 1, 2, 1, 1, 0]), np.zeros(6, int)
>>> figures = estimates([BY_NAME["exact"]], ratings, task, cells=1)["exact"]
>>> [f"{column[0]:.3f}" for column in (figures.value, figures.low, figures.high)]
['0.833', '0.436', '0.970']
"""
