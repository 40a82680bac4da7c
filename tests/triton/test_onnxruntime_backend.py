"""NVIDIA's own ONNX Runtime backend, built for the CPU, serves the backbone as profile `gpu-onnx` has it.

Its sources (r24.10) are no part of this repository; `SCOREMUX_TRITON_ONNXRUNTIME` names a folder whose `build.sh OUT
PYTHON` makes a Triton with that backend, or one that it made.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import onnxruntime
import pytest

from decoders import make_repository
from families import make_family
from making import ROOT, WORDS
from mixed_store import Kind, make_mixed_repository
from scoremux_client import Response, Retries, Scored, ScoringClient
from scoremux_engine import Engine
from scoremux_engine.runners.choose import REFERENCE
from scoremux_export.opening.openable import Opening
from scoremux_server.profile import Profile
from watching import unwatched, watched

SOURCES = Path(os.environ.get("SCOREMUX_TRITON_ONNXRUNTIME", ROOT.parent / "shared" / "triton-onnxruntime-backend"))
BUILT = SOURCES / "bin" / "tritonserver"

pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(
        not (BUILT.exists() or (SOURCES / "build.sh").exists()),
        reason="there are no sources of Triton's ONNX Runtime backend",
    ),
]


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Triton with that backend."""
    if BUILT.exists():
        return SOURCES
    folder, python = tmp_path_factory.mktemp("triton"), Path(onnxruntime.__file__).parents[4] / "bin" / "python"
    built = subprocess.run(
        ["bash", str(SOURCES / "build.sh"), str(folder), str(python)], capture_output=True, text=True, check=False
    )
    if built.returncode:
        pytest.skip(f"the backend cannot be built here: {built.stderr[-300:]}")
    return folder


def rows_of(repository: Path, count: int) -> list[Response]:
    draw, tasks = random.Random(count), Engine.open(repository, runner=REFERENCE).bank.tasks
    return [
        Response(draw.choice(tasks), " ".join(draw.choices(WORDS, k=draw.randint(0, 60))), str(n)) for n in range(count)
    ]


def expected_of(repository: Path, rows: list[Response]) -> list[Scored]:
    texts, tasks = [str(row.text) for row in rows], [row.task for row in rows]
    scored = Engine.open(repository, runner=REFERENCE).score(texts, tasks)
    assert all(one.ok for one in scored)
    return scored


def served_by(repository: Path, triton: Path, rows: list[Response], log: Path) -> list[Scored]:
    profile = Profile.read("gpu-onnx", [f"triton={triton}"])
    with (
        unwatched(repository, profile=profile, log=log) as server,
        ScoringClient(server.endpoints.grpc_url) as client,
    ):
        return client.score(rows)


def without_ids(scored: list[Scored]) -> list[tuple[object, ...]]:
    return [(one.task, one.level, one.probabilities, one.score, one.route, one.tokens) for one in scored]


@pytest.mark.parametrize("family", ["bert", "modernbert", "deberta-v2"])
def test_an_encoder_has_the_bits_of_the_engine(family: str, triton: Path, tmp_path: Path) -> None:
    """Adapters of several ranks, kinds and heads, in two size classes."""
    sites = {"bert": "query,value", "modernbert": "Wqkv", "deberta-v2": "query_proj,value_proj"}[family]
    kinds = (Kind(4, 5, sites), Kind(24, 2, sites, {"use_dora": True}), Kind(70, 20, sites, {"lora_bias": True}))
    opening = Opening(sites, dora=True, bias=True)
    make_mixed_repository(str(make_family(family, tmp_path / "source")), tmp_path / "repo", kinds, opening)
    rows = rows_of(tmp_path / "repo", 120)
    served = served_by(tmp_path / "repo", triton, rows, tmp_path / "log")
    assert without_ids(served) == without_ids(expected_of(tmp_path / "repo", rows))
    assert all(one.arithmetic.startswith("triton-onnxruntime-") for one in served)


def test_a_decoder_with_prefixes_has_the_bits_of_the_engine(triton: Path, tmp_path: Path) -> None:
    repository = make_repository("gemma3", tmp_path / "repo")
    rows = rows_of(repository, 120)
    served = served_by(repository, triton, rows, tmp_path / "log")
    assert without_ids(served) == without_ids(expected_of(repository, rows))


def test_rows_survive_kills(small_repository: Path, triton: Path, tmp_path: Path) -> None:
    rows = rows_of(small_repository, 400)
    expected = without_ids(expected_of(small_repository, rows))
    keys = {"triton": str(triton), "runner": "triton", "backend": "onnxruntime"}
    with watched(small_repository, tmp_path / "log", **keys) as watch:
        scored: list[list[Scored]] = []

        def score() -> None:
            retries = Retries(patience_s=240, contact_s=240)
            with ScoringClient(watch.server.endpoints.grpc_url, chunk_rows=8, retries=retries) as client:
                scored.extend(client.score(rows) for _ in range(4))

        load = threading.Thread(target=score)
        load.start()
        for victim in ("stub", "server"):
            time.sleep(0.5)
            os.kill(watch.stub() if victim == "stub" else watch.server.process.pid, signal.SIGKILL)
            watch.wait_until(False)
            watch.wait_until(True)
        load.join(240)
        assert watch.health.restarts == 2
    assert [without_ids(one) for one in scored] == [expected] * 4
