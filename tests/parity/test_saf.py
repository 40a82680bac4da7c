"""The 27 committed adapters on real student answers, through a real Triton."""

from __future__ import annotations

from pathlib import Path

import pytest

from saf import ADAPTERS, SafRow, compare_with_peft, needs_data, needs_minilm, prepare, read_rows
from scoremux_engine import Engine

pytestmark = needs_minilm


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("saf"))


def test_there_are_27_tasks_and_the_sample_covers_them(repository: Path) -> None:
    engine = Engine.open(repository)
    assert len(engine.bank.tasks) == len(list(ADAPTERS.iterdir())) == 27


@needs_data
@pytest.mark.triton
def test_saf_test_responses_get_pefts_level_through_triton(repository: Path) -> None:
    """Five responses of each task; `make slow` takes all 680."""
    of_task: dict[str, list[SafRow]] = {}
    for row in read_rows():
        of_task.setdefault(row.task, []).append(row)
    compare_with_peft(repository, [row for rows in of_task.values() for row in rows[:5]])
