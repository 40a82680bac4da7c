"""A row that kills the scorer, sent by curl beside others: named after two deaths, and for every client."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scoremux_client import Response, Retries, ScoringClient, Status
from scoremux_engine.model.backbone import Backbone
from scoremux_server.triton.server import TritonServer
from watching import Watched, responses, watched

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

DEADLY = "bridge bridge bridge bridge"
# The signal goes to the thread that computes, as a fault of its own would: that thread computes no further.
_MODEL = """
import signal
import threading
from scoremux_engine.runners import openvino

class Mortal(openvino.OpenVinoRunner):
    def run(self, rows, *others, **options):
        deadly = (rows.input_ids == {token}).sum(axis=1) >= 4
        if rows.input_ids.shape[1] <= 16 and deadly.any():  # longer ones are the probe's
            signal.pthread_kill(threading.get_ident(), {number})
        return super().run(rows, *others, **options)

openvino.OpenVinoRunner = Mortal
from scoremux_engine.backend.scorer import Scorer as TritonPythonModel
"""


SILENT = pytest.param((signal.SIGKILL, 3), marks=pytest.mark.nightly, id="without a sign of a crash")


@pytest.fixture(params=[pytest.param((signal.SIGSEGV, 2), id="a crash"), SILENT])
def serving(small_repository: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Watched, int]]:
    """A watched server whose scorer dies by a signal in a row with four bridges; how often until the row is named."""
    number, deaths = request.param
    tokenizer = Backbone.open(small_repository / "backbone" / "1").tokenizer
    token = tokenizer.encode([DEADLY])[0].ids[1]

    class MortalServer(TritonServer):
        def command(self, folder: Path, key: str) -> list[str]:
            arguments = super().command(folder, key)
            model = folder / "models" / "scorer" / "1" / "model.py"
            model.write_text(_MODEL.format(token=token, number=int(number)))
            return arguments

    with watched(small_repository, tmp_path / "triton.log", server=MortalServer) as watch:
        yield watch, deaths


def curl(url: str, texts: list[str]) -> list[str] | None:
    """Return the statuses of rows that curl sends as one request; None without an answer."""
    tensors = {"TEXT": texts, "TASK": ["t-1"] * len(texts)}
    inputs = [{"name": n, "datatype": "BYTES", "shape": [len(d), 1], "data": d} for n, d in tensors.items()]
    body = json.dumps({"inputs": inputs, "outputs": [{"name": "STATUS"}]})
    command = ["curl", "-s", "--max-time", "60", f"{url}/v2/models/scorer/infer", "-d", body]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or '"error"' in done.stdout:
        return None
    statuses: list[str] = json.loads(done.stdout)["outputs"][0]["data"]
    return statuses


def test_killer_row_gets_server_died_and_the_others_are_scored(serving: tuple[Watched, int]) -> None:
    watch, deaths = serving
    endpoints, before = watch.server.endpoints, watch.health.restarts
    others = [Response(r.task, r.text.replace("bridge", "table")) for r in responses(512)]
    scored = []

    def score() -> None:
        with ScoringClient(endpoints.grpc_url, retries=Retries(patience_s=150, contact_s=150)) as client:
            scored.extend(client.score(others))

    beside = threading.Thread(target=score)
    beside.start()
    statuses, deadline = None, time.monotonic() + 150
    while statuses is None:
        assert time.monotonic() < deadline, watch.reports
        statuses = curl(endpoints.http_url, ["the router", DEADLY, "a lost packet"])
        time.sleep(0.2)
    beside.join(150)
    assert statuses == ["OK", "SERVER_DIED", "OK"]
    assert watch.health.restarts - before == deaths, watch.reports
    assert [s.status for s in scored] == [Status.OK] * 512
    with ScoringClient(endpoints.grpc_url) as client:
        assert client.score([Response("t-1", DEADLY)])[0].status is Status.SERVER_DIED
    watch.wait_until(True)  # the deaths before do not count below
    os.kill(watch.stub(), signal.SIGKILL)
    watch.wait_until(False)
    watch.wait_until(True)
    assert curl(endpoints.http_url, [DEADLY]) == ["SERVER_DIED"]
