"""Fixtures of the review desk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from desks import Programme, Work, check_counts, make_programme
from scoremux_desk.desk_policy import DeskPolicy


@pytest.fixture
def at_work(tmp_path: Path) -> Iterator[Any]:
    """Give what makes a desk at work; whatever was done there, its record and its counts hold at the end."""
    desks = []

    def make(number: int = 40, policy: DeskPolicy | None = None, **options: Any) -> Work:
        chosen = policy or DeskPolicy(groups=False)
        work = Work(make_programme(tmp_path, number, chosen, **options), chosen)
        desks.append(work)
        return work

    yield make
    for work in desks:
        work.verify()
        check_counts(work.programme)
        work.database.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programme]:
    """A desk for tests that only read, or whose requests are refused."""
    made = make_programme(tmp_path_factory.mktemp("shared"), policy=DeskPolicy(groups=False))
    yield made
    made.database.close()


@pytest.fixture
def programme(tmp_path: Path) -> Iterator[Programme]:
    """A desk without groups."""
    made = make_programme(tmp_path, policy=DeskPolicy(groups=False))
    yield made
    made.database.close()
