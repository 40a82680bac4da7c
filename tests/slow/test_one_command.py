"""How long it takes from a folder of adapters to the first score."""

from __future__ import annotations

import os
import time
from pathlib import Path

from proofs import Result
from saf import ADAPTERS, minilm, needs_minilm
from scoremux_client import Response, ScoringClient
from serving import serving

MOST_S = 45.0


@needs_minilm
def test_a_folder_of_adapters_becomes_a_score(tmp_path: Path, result: Result) -> None:
    started, load = time.monotonic(), os.getloadavg()[0]
    options = ["--adapters", str(ADAPTERS), "--backbone", str(minilm())]
    with serving(tmp_path / "repo", tmp_path, options=options, start_s=600) as server:
        with ScoringClient(server.endpoints.grpc_url) as client:
            (scored,) = client.score([Response("en-6.3-ipp", "It hands out addresses.")])
        took_s = time.monotonic() - started
    assert scored.ok
    figure = f"{took_s:.0f} s (load of the machine at the start: {load:.1f})"
    result("one command from a folder of 27 adapters of MiniLM to the first score", figure)
    assert took_s <= MOST_S, figure
