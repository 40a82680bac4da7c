"""Rows with human levels, as one table with their weights: how each was chosen to be read, equal texts, and totals."""

from scoremux_decide.total import Total
from scoremux_evidence.rows.similar_texts import fold
from scoremux_evidence.rows.weighing import CHOSEN_BY

__all__ = ["CHOSEN_BY", "Total", "fold"]
