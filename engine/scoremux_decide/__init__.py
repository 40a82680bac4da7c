"""Decisions about scored rows: the confidence, condition and route of each. They need numpy and pydantic only."""
