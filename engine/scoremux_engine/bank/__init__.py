"""The bank: the task versions that are in memory, as tables the graph can index by slot."""
