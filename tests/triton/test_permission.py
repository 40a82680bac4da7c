"""Requests that try to score what their token may not, through a real HAProxy and past it, at a real Triton."""

from __future__ import annotations

from pathlib import Path

import pytest

from attempts import attack, attacker
from doors import needs_haproxy

pytestmark = [pytest.mark.triton, needs_haproxy]


@pytest.mark.parametrize("attempts", [600, pytest.param(10_000, marks=pytest.mark.nightly)])
def test_forbidden_rows_of_random_attacks_are_not_scored(small_repository: Path, tmp_path: Path, attempts: int) -> None:
    with attacker(small_repository, tmp_path) as made:
        attack(made, attempts, seed=1)
