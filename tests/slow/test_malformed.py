"""Malformed requests by the ten thousand: an answer or an error sentence each, and the same bits afterwards."""

from __future__ import annotations

from pathlib import Path

from fuzzing import fuzz
from proofs import Result, Scaled
from serving import serving


def test_every_malformed_request_gets_a_sentence(
    saf_repository: Path, tmp_path: Path, scaled: Scaled, result: Result
) -> None:
    count = scaled(100_000)
    with serving(saf_repository, tmp_path) as server:
        tally = fuzz(server.endpoints, lambda: {server.triton, server.stub}, count)
    result(
        f"{count:,} malformed requests over gRPC and HTTP, but for two kinds that kill the bundled Triton",
        f"{len(tally.bad)} without an answer or an error sentence, {len(tally.sentences)} different sentences",
    )
    assert tally.bad == []
