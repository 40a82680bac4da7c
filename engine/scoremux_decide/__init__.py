"""Decisions about scored rows: the confidence, condition and route of each. All but `policy` need numpy only."""
