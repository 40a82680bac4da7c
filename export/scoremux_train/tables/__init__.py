"""The tables of a run: which rows each learns, their training in stages, and what they predict."""
