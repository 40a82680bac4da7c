"""Fixtures of the review desk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from desks import Programme, Work, make_programme
from scoremux_review.database.schema import queues, reads
from scoremux_review.desk_policy import DeskPolicy


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


def check_counts(programme: Programme) -> None:
    """Check that the queues' counts are those of the reads."""
    with programme.database.read() as connection:
        query = select(reads.c.task, reads.c.reason, reads.c.state).where(reads.c.kind != "validity")
        states = Counter((r.task, r.reason, r.state) for r in connection.execute(query))
        for queue in connection.execute(select(queues)):
            key = (queue.task, queue.reason)
            assert queue.waiting == sum(states[(*key, state)] for state in ("open", "leased", "aside"))
            assert queue.done == states[(*key, "done")]
