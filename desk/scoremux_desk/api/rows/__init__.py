"""Rows that people read: from the answer to the desk, and what the desk decided."""
