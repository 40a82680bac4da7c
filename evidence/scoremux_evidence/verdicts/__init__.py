"""Conclusions from statistics: verdicts on criteria, by group too, totals and comparisons."""
