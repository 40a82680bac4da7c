"""Malformed requests by the ten thousand: an answer or an error sentence each, and the same bits afterwards.

`--resume FOLDER` keeps what is done of the requests through the door, so that the same command goes on after a stop.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from door_fuzzing import door_fuzz
from doors import needs_haproxy
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


@needs_haproxy
def test_no_killer_passes_the_door_and_every_innocent_row_does(
    small_repository: Path, tmp_path: Path, scaled: Scaled, result: Result, request: pytest.FixtureRequest
) -> None:
    count, size = scaled(100_000), scaled(5_000)
    done = Path(request.config.getoption("--resume") or tmp_path / "slices")
    done.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    with door_fuzz(small_repository, tmp_path) as fuzzer:
        for first in range(0, count, size):
            file = done / f"door-{first}-{size}.json"
            if not file.exists():
                file.write_text(json.dumps(fuzzer.run(first, min(size, count - first))), encoding="utf-8")
            of_slice, problems = json.loads(file.read_text(encoding="utf-8"))
            counts.update(of_slice)
            wrong += problems
    kinds = {kind: sum(n for name, n in counts.items() if name.startswith(kind)) for kind in ("killer", "innocent")}
    result(
        f"{count:,} requests through the front door over gRPC and HTTP: {kinds['killer']:,} killers of Triton 24.10 in "
        f"random encodings, {kinds['innocent']:,} rows with their word in the text, malformed ones",
        f"{len(wrong)} killers passed, innocent rows refused, answers missing or ends of Triton",
    )
    assert wrong == []
