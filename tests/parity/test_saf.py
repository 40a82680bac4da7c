"""The 27 committed adapters on real student answers, through a real Triton."""

from __future__ import annotations

from pathlib import Path

import pytest

from saf import ADAPTERS, SafRow, compare_with_peft, needs_data, read_rows
from scoremux_engine import Engine


def test_there_are_27_tasks_and_the_sample_covers_them(saf_repository: Path) -> None:
    engine = Engine.open(saf_repository)
    assert len(engine.bank.tasks) == len(list(ADAPTERS.iterdir())) == 27


@needs_data
@pytest.mark.triton
def test_saf_test_responses_get_pefts_level_through_triton(saf_repository: Path) -> None:
    """Two responses of each task; `make slow` takes all 680."""
    of_task: dict[str, list[SafRow]] = {}
    for row in read_rows():
        of_task.setdefault(row.task, []).append(row)
    compare_with_peft(saf_repository, [row for rows in of_task.values() for row in rows[:2]])
