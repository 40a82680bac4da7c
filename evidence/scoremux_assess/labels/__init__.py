"""Rows with human levels, as one table with their weights."""
