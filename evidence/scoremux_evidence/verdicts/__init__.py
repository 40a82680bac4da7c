"""Conclusions from statistics: verdicts on criteria, comparisons, promises."""
