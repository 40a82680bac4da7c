"""Scores as measurements: agreement with human raters, its intervals, verdicts against criteria, reports.

`ratings`, `statistics`, `intervals` and `confidence` need numpy only; reading files needs pyarrow (extra `cli`), the
page of a report needs jinja2 (extra `assess`). To measure rows of your own:

>>> import numpy as np
>>> from scoremux_assess.agreement.intervals import estimates
>>> from scoremux_assess.agreement.ratings import Ratings
>>> from scoremux_assess.agreement.statistics import BY_NAME
>>> ratings, task = Ratings.of(human=[0, 1, 2, 2, 1, 0], machine=[0, 1, 2, 1, 1, 0]), np.zeros(6, int)
>>> found = estimates([BY_NAME["exact"]], ratings, task, cells=1)["exact"]
>>> [f"{column[0]:.3f}" for column in (found.value, found.low, found.high)]
['0.833', '0.436', '0.970']
"""
