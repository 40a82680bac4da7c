"""Conditions: deterministic rules that find responses that are not attempts, or cannot be scored as one."""
