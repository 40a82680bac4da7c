"""Ten thousand requests that try to score what their token may not: none gets through."""

from __future__ import annotations

from pathlib import Path

import pytest

from attempts import attack, attacker
from doors import needs_haproxy
from proofs import Result, Scaled

pytestmark = [pytest.mark.triton, needs_haproxy]


def test_no_attempt_gets_through(small_repository: Path, tmp_path: Path, scaled: Scaled, result: Result) -> None:
    attempts = max(200, scaled(10_000))
    with attacker(small_repository, tmp_path) as made:
        attack(made, attempts, seed=2)
    refused = sum(made.seen[over, "refused"] for over in ("grpc", "json", "binary"))
    forbidden, scored = (made.seen["rows", status] for status in ("FORBIDDEN_TASK", "OK"))
    result(
        f"{attempts:,} requests with forged, expired, doubled and missing grants and forbidden tasks, through the door "
        "and past it, over gRPC and HTTP",
        f"0 got through: {refused:,} requests refused, {forbidden:,} rows FORBIDDEN_TASK beside {scored:,} scored",
    )
