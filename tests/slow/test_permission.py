"""Ten thousand requests that try to score what their token may not: none gets through. Takes some minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from attempts import attack, attacker
from doors import needs_haproxy

pytestmark = [pytest.mark.triton, needs_haproxy]


def test_none_of_ten_thousand_attempts_gets_through(small_repository: Path, tmp_path: Path) -> None:
    with attacker(small_repository, tmp_path) as made:
        attack(made, 10_000, seed=2)
        print(dict(made.seen))
