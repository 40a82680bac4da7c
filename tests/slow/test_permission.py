"""Ten thousand requests that try to score what their token may not: none gets through. Takes some minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from attempts import attack, attacker
from doors import needs_haproxy
from proofs import Result, Scaled

pytestmark = [pytest.mark.triton, needs_haproxy]


def test_none_of_ten_thousand_attempts_gets_through(
    small_repository: Path, tmp_path: Path, scaled: Scaled, result: Result
) -> None:
    count = scaled(10_000)
    with attacker(small_repository, tmp_path) as made:
        attack(made, count, seed=2)
        print(dict(made.seen))
    result(f"{count:,} requests for tasks that their token may not score, and forged grants", "0 got through")
