"""Agreement of scores with human levels: statistics, intervals, verdicts."""
