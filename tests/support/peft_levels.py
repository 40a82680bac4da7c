"""SAF responses through a real Triton and through PEFT."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from saf import SafRow, peft_logits
from scoremux_client import Response, ScoringClient
from scoremux_engine import Engine
from scoremux_server.triton.endpoints import Endpoints
from scoremux_server.triton.server import TritonServer


def compare_with_peft(repository: Path, rows: list[SafRow]) -> float:
    """Check that each row gets PEFT's level through Triton; return the largest |Δlogit|, at most 1e-4."""
    oracle = np.array(peft_logits(rows))
    order = random.Random(1).sample(range(len(rows)), len(rows))
    with TritonServer(repository, Endpoints.choose()) as server, ScoringClient(server.endpoints.grpc_url) as client:
        served = client.score([Response(rows[i].task, rows[i].text, rows[i].id) for i in order])
    assert [s.id for s in served] == [rows[i].id for i in order]
    assert [s.level for s in served] == oracle.argmax(1)[order].tolist()
    logits = Engine.open(repository).logits([r.text for r in rows], [r.task for r in rows])
    difference = float(np.abs(logits - oracle).max())
    assert difference <= 1e-4
    return difference
