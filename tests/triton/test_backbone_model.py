"""The backbone as a Triton model of its own, in the Python backend or NVIDIA's for ONNX Runtime: no bit changes.

That backend is built for the CPU from sources (r24.10) that are no part of this repository:
`SCOREMUX_TRITON_ONNXRUNTIME` names a folder whose `build.sh OUT PYTHON` makes a Triton with it, or one that it made.
"""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
import pytest
from tritonclient.grpc import service_pb2

from doors import Place, backend_of, bearer, needs_haproxy, serving
from families import QUICK
from making import ROOT, WORDS
from scoremux_client import Response, Retries, Scored, ScoringClient
from scoremux_engine import Engine
from scoremux_engine.runners.choose import REFERENCE
from scoremux_server.profile import Profile
from watching import unwatched, watched

SOURCES = Path(os.environ.get("SCOREMUX_TRITON_ONNXRUNTIME", ROOT.parent / "shared" / "triton-onnxruntime-backend"))
BUILT = SOURCES / "bin" / "tritonserver"


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if BUILT.exists():
        return SOURCES
    if not (SOURCES / "build.sh").exists():
        pytest.skip("there are no sources of Triton's ONNX Runtime backend")
    folder, python = tmp_path_factory.mktemp("triton"), Path(onnxruntime.__file__).parents[4] / "bin" / "python"
    built = subprocess.run(
        ["bash", str(SOURCES / "build.sh"), str(folder), str(python)], capture_output=True, text=True, check=False
    )
    if built.returncode:
        pytest.skip(f"the backend cannot be built here: {built.stderr[-300:]}")
    return folder


def rows_of(engine: Engine, count: int) -> list[Response]:
    draw = random.Random(count)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(0, 60))) for _ in range(count)]
    return [Response(draw.choice(engine.bank.tasks), text) for text in ("", "a bridge is lost [PAD]", *texts)]


def expected_of(engine: Engine, rows: list[Response]) -> list[Scored]:
    scored = engine.score([row.text for row in rows], [row.task for row in rows])
    assert all(one.ok for one in scored)
    return without_arithmetic(scored)


def without_arithmetic(scored: list[Scored]) -> list[Scored]:
    return [replace(one, arithmetic="") for one in scored]


NIGHTLY = [pytest.param("onnxruntime", family, marks=pytest.mark.nightly) for family in QUICK]


@pytest.mark.parametrize(("backend", "family"), [("python", "qwen3"), *NIGHTLY])
def test_rows_have_the_bits_of_the_engine(
    backend: str, family: str, family_repository: Callable[[str], Path], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Adapters of all kinds; a decoder's weights are beside its graph, and some of its tasks have prefixes."""
    repository = family_repository(family)
    engine = Engine.open(repository, runner=REFERENCE)
    rows, profile = rows_of(engine, 120), Profile(runner="triton", backend="python")
    if backend == "onnxruntime":
        profile = Profile.read("gpu-onnx", [f"triton={request.getfixturevalue('triton')}"])
    with (
        unwatched(repository, profile=profile, log=tmp_path / "log") as server,
        ScoringClient(server.endpoints.grpc_url) as client,
        ScoringClient(server.endpoints.grpc_url, embeddings=True) as asks,
    ):
        served, with_vectors = client.score(rows), asks.score(rows)
    assert without_arithmetic(served) == without_arithmetic(with_vectors) == expected_of(engine, rows)
    vectors = engine.embed([row.text for row in rows], [row.task for row in rows])
    assert [np.asarray(one.embedding).tobytes() for one in with_vectors] == [vector.tobytes() for vector in vectors]
    name = "triton-onnxruntime-" if backend == "onnxruntime" else engine.arithmetic
    assert all(one.arithmetic.startswith(name) for one in served)


@pytest.mark.nightly
def test_rows_survive_kills_with_onnxruntimes_backend(small_repository: Path, triton: Path, tmp_path: Path) -> None:
    engine = Engine.open(small_repository, runner=REFERENCE)
    rows = rows_of(engine, 400)
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
    assert [without_arithmetic(one) for one in scored] == [expected_of(engine, rows)] * 4


@needs_haproxy
def test_a_request_that_names_two_models_does_not_reach_the_backbone(small_repository: Path, tmp_path: Path) -> None:
    def refusal(place: Place, hidden: str) -> str:
        # Of two names HAProxy reads the first, Triton the last.
        first, last = (service_pb2.ModelInferRequest(model_name=name) for name in ("scorer", hidden))
        roots = grpc.ssl_channel_credentials((tmp_path / "ca.pem").read_bytes())
        with grpc.secure_channel(f"localhost:{place.port}", roots) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            with pytest.raises(grpc.RpcError) as refused:
                headers = list(bearer(place.everything).items())
                call(first.SerializeToString() + last.SerializeToString(), metadata=headers, timeout=60)
        return str(refused.value.details())

    with serving(small_repository, tmp_path / "triton.log", runner="triton", backend="python") as server:
        place = Place(tmp_path, [backend_of(server.endpoints)])
        with place.open():
            assert "inputs but got 0 inputs" in refusal(place, server.backbone_model)
            assert "unknown model: 'backbone' is not found" in refusal(place, "backbone")
