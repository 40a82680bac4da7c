"""Requests that try to score what their token may not, through a real HAProxy and past it, at a real Triton."""

from __future__ import annotations

from pathlib import Path

import pytest

from attempts import attack, attacker
from doors import needs_haproxy

pytestmark = [pytest.mark.triton, needs_haproxy]


def test_forbidden_rows_of_random_attacks_are_not_scored(small_repository: Path, tmp_path: Path) -> None:
    with attacker(small_repository, tmp_path) as made:
        attack(made, 600, seed=1)
