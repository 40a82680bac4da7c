"""Conclusions from statistics: verdicts on criteria, comparisons, fairness, promises."""
