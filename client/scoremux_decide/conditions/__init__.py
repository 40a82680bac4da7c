"""Conditions: deterministic rules that find responses which are no attempt, or cannot be scored as one."""
