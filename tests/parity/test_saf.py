"""The 27 committed adapters on real student answers, through a real Triton."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from saf import ADAPTERS, SafRow, needs_data, needs_minilm, peft_logits, prepare, read_rows
from scoremux_client import Response, ScoringClient
from scoremux_engine import Engine
from scoremux_server.endpoints import Endpoints
from scoremux_server.server import Server

pytestmark = needs_minilm


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("saf"))


@pytest.fixture(scope="module")
def rows() -> list[SafRow]:
    return read_rows()


def test_there_are_27_tasks_and_the_sample_covers_them(repository: Path) -> None:
    engine = Engine.open(repository)
    assert len(engine.bank.tasks) == len(list(ADAPTERS.iterdir())) == 27


@needs_data
@pytest.mark.triton
def test_every_saf_test_response_gets_pefts_level_through_triton(repository: Path, rows: list[SafRow]) -> None:
    oracle = np.array(peft_logits(rows))
    order = random.Random(1).sample(range(len(rows)), len(rows))
    with Server(repository, Endpoints.choose()) as server, ScoringClient(server.endpoints.grpc_url) as client:
        served = client.score([Response(rows[i].task, rows[i].text, rows[i].id) for i in order])
    assert [s.id for s in served] == [rows[i].id for i in order]
    assert [s.level for s in served] == oracle.argmax(1)[order].tolist()
    logits = Engine.open(repository).logits([r.text for r in rows], [r.task for r in rows])
    assert np.abs(logits - oracle).max() <= 1e-4
