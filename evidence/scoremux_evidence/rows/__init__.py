"""Rows with human levels, as one table with their weights: how each was chosen to be read, and equal texts."""

from scoremux_evidence.rows.similar_texts import fold
from scoremux_evidence.rows.weighing import CHOSEN_BY

__all__ = ["CHOSEN_BY", "fold"]
