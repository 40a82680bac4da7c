"""Scores as measurements: agreement with human raters, its intervals, verdicts against criteria, reports.

`statistics` and `intervals` need numpy only; reading files needs pyarrow, plots need matplotlib (extra `assess`).
"""
