"""Random schedules at length, on every runner: no bit changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from computed import computed_runners
from proofs import Result, Scaled
from schedules import run_schedules
from scoremux_engine import Engine


@pytest.mark.parametrize("name", computed_runners())
def test_rows_keep_their_bits_in_schedules(mixed_repository: Path, name: str, scaled: Scaled, result: Result) -> None:
    """Requests of up to 24 rows, 12 at once, of tokens, batch jobs, deadlines and callers who leave."""
    requests = scaled(20_000)
    counts = run_schedules(Engine.open(mixed_repository, runner=computed_runners()[name]), requests, seed=30)
    figure = f"{counts['changed']} of {counts['same'] + counts['changed']:,} ({counts['dropped']:,} dropped)"
    result(f"rows with other bits in {requests:,} random requests that share the scheduler, {name}", figure)
    assert counts["same"] and counts.keys() <= {"same", "dropped"}
