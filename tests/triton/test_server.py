"""A real tritonserver on a small backbone: rows good and bad, requests that do not fit, live publishing, clean ends."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tritonclient import grpc as triton

from computed import computed_precisions
from http_transport import HttpTransport
from making import TASKS, make_adapter
from scoremux_client import NO_RETRIES, Response, ScoringClient, Status, TransportError, contract
from scoremux_engine import Engine
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_engine.store.store import Store
from scoremux_server.errors import SetupError, StartError
from scoremux_server.profile import Profile
from scoremux_server.triton.command_line import KEY_HEADER
from scoremux_server.triton.server import TritonServer
from waiting import free_endpoints
from watching import RESTRICTED, responses, unwatched


@pytest.fixture
def client(server: TritonServer) -> Iterator[ScoringClient]:
    with ScoringClient(server.endpoints.grpc_url, chunk_rows=64) as connected:
        yield connected


def infer(server: TritonServer, body: object) -> tuple[int, str]:
    request = urllib.request.Request(f"{server.endpoints.http_url}/v2/models/scorer/infer", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def tensor(name: str, *data: object, datatype: str = "BYTES", shape: list[int] | None = None) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data), 1], "data": list(data)}


def test_served_rows_have_the_bits_of_the_engine(client: ScoringClient, small_repository: Path) -> None:
    rows = responses(150)
    expected = Engine.open(small_repository).score([r.text for r in rows], [r.task for r in rows])
    served = client.score(rows)
    assert [s.id for s in served] == [r.id for r in rows]
    assert [s.probabilities for s in served] == [e.probabilities for e in expected]
    assert [(s.level, s.score, s.version) for s in served] == [(e.level, e.score, e.version) for e in expected]
    assert {s.route for s in served} == {"human:UNCALIBRATED"}


@pytest.mark.parametrize(
    ("row", "status"),
    [
        (Response("no-such-task", "x"), Status.UNKNOWN_TASK),
        (Response("t-1@" + "0" * 64, "x"), Status.UNKNOWN_TASK),
        (Response("", "x"), Status.INVALID_TASK),
        (Response("t-1@", "x"), Status.INVALID_TASK),
        (Response("t-1", b"\xff\xfe not utf-8"), Status.INVALID_TEXT),
        (Response("t-1", "half a pair \ud800"), Status.INVALID_TEXT),
        (Response("t-1", "x" * (2 << 16)), Status.TEXT_TOO_LONG),
        (Response("t-1", ""), Status.OK),
        (Response("t-1", " \n\t "), Status.OK),
        (Response("t-1", "router " * 9362), Status.OK),
        (Response("t-1", "nul \0 bytes\0"), Status.OK),
        (Response("t-1", "emoji 😀👩‍👩‍👧 and \u202e marks"), Status.OK),
    ],
)
def test_an_odd_row_gets_its_status_and_changes_no_other(client: ScoringClient, row: Response, status: Status) -> None:
    before, after = responses(2, seed=9)
    alone = [client.score([r])[0] for r in (before, after)]
    first, odd, last = client.score([before, row, after])
    assert odd.status is status
    assert odd.ok == (odd.level >= 0) == (odd.version != "") == bool(odd.probabilities)
    assert [first, last] == alone


def test_truncation_is_said(client: ScoringClient) -> None:
    short, long = client.score([Response("t-1", "router"), Response("t-1", "router " * 500)])
    assert (short.tokens, short.truncated) == (3, False)
    assert (long.tokens, long.truncated) == (64, True)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ([tensor("TEXT", 1, datatype="INT32"), tensor("TASK", "t-1")], "data-type is 'INT32'"),
        ([tensor("TEXT", "a", "b", shape=[1, 2]), tensor("TASK", "t-1")], r"unexpected shape for input 'TEXT'"),
        ([tensor("TEXT", "a")], "missing required input(s) ['TASK']"),
        ([tensor("TEXT", "a"), tensor("TASK", "t-1", "t-2")], "batch size"),
        ([tensor("TEXT", *["a"] * 513), tensor("TASK", *["t-1"] * 513)], "batch-size must be <= 512"),
    ],
)
def test_request_that_does_not_fit_fails(server: TritonServer, inputs: list[dict[str, object]], sentence: str) -> None:
    code, answer = infer(server, {"inputs": inputs})
    assert code == 400
    assert sentence in json.loads(answer)["error"]


def test_every_http_answer_is_valid_json(server: TritonServer) -> None:
    texts, tasks = ["the router", "", "the", "x"], ["t-1", "t-2", "no-such-task", "a b"]
    code, answer = infer(server, {"inputs": [tensor("TEXT", *texts), tensor("TASK", *tasks)]})
    assert code == 200 and "NaN" not in answer and "Infinity" not in answer
    if node := shutil.which("node"):
        script = "JSON.parse(require('fs').readFileSync(0, 'utf8'))"
        subprocess.run([node, "-e", script], input=answer, text=True, check=True)
    outputs = {output["name"]: output["data"] for output in json.loads(answer, parse_constant=pytest.fail)["outputs"]}
    assert outputs["LEVEL"][2:] == [-1, -1]
    assert outputs["SCORE"][2:] == pytest.approx([contract.NO_SCORE] * 2)
    assert outputs["CONFIDENCE"] == [-1] * 4
    assert outputs["ARITHMETIC"][0] == outputs["ARITHMETIC"][1] != "" and outputs["ARITHMETIC"][2:] == ["", ""]
    assert outputs["PROBABILITIES"][-5:] == [0] * 5


def test_embeddings_go_to_those_who_ask_for_them(server: TritonServer, small_repository: Path) -> None:
    rows = [*responses(80), Response("no-such-task", "the router", "none")]
    texts, tasks = [row.text for row in rows], [row.task for row in rows]
    engine = Engine.open(small_repository)
    expected, vectors = list(map(repr, engine.score(texts, tasks))), engine.embed(texts, tasks)
    with (
        ScoringClient(server.endpoints.grpc_url, chunk_rows=16, embeddings=True) as asks,
        ScoringClient(server.endpoints.grpc_url, chunk_rows=16) as does_not,
        ThreadPoolExecutor(4) as pool,
    ):
        # Requests that wait while a batch runs go together in the next one.
        asked = [pool.submit(asks.score, rows) for _ in range(3)]
        others = [pool.submit(does_not.score, rows) for _ in range(3)]
        for scored in (future.result() for future in asked):
            assert [repr(replace(s, id=None)) for s in scored] == expected
            for one, vector in zip(scored, vectors, strict=True):
                assert (one.embedding is None) == (not one.ok)
                assert one.embedding is None or one.embedding.tobytes() == vector.tobytes()
        for scored in (future.result() for future in others):
            assert [repr(replace(s, id=None)) for s in scored] == expected
            assert all(one.embedding is None for one in scored)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("{http}", "does not seem to speak gRPC"),
        ("{metrics}", "does not seem to speak gRPC"),
        ("grpcs://{grpc}", "does not seem to speak TLS"),
    ],
)
def test_wrong_ports_and_schemes_are_named(server: TritonServer, address: str, words: str) -> None:
    ports = {name: f"127.0.0.1:{getattr(server.endpoints, name)}" for name in ("grpc", "http", "metrics")}
    with (
        ScoringClient(address.format(**ports), retries=NO_RETRIES) as client,
        pytest.raises(TransportError, match=words),
    ):
        client.score([Response("t-1", "the router")])


def test_all_outputs_come_without_the_two_large_ones_which_come_by_name(server: TritonServer) -> None:
    inputs = [tensor("TEXT", *["the router"] * 512), tensor("TASK", *["t-1"] * 512)]
    names = [spec.name for spec in (*contract.OUTPUTS, *contract.ON_REQUEST)]

    def answer(*outputs: str) -> tuple[dict[str, Any], int]:
        asked = {"outputs": [{"name": name} for name in outputs]} if outputs else {}
        _, text = infer(server, {"inputs": inputs, **asked})
        return {output["name"]: output for output in json.loads(text)["outputs"]}, len(text)

    for everything, size in (answer(), answer(*names)):
        assert list(everything) == names and size < 200_000
        assert (everything["EMBEDDING"]["data"], everything["EMBEDDING"]["shape"]) == ([], [512, 0])
        assert everything["TASKS"]["data"] == [""] * 512
    by_name, _ = answer("LEVEL", "EMBEDDING", "TASKS")
    assert list(by_name) == ["LEVEL", "EMBEDDING", "TASKS"]
    assert by_name["EMBEDDING"]["shape"] == [512, 32] and by_name["LEVEL"] == answer()[0]["LEVEL"]
    alone, _ = answer("TASKS")
    first, *others = alone["TASKS"]["data"]
    assert [task["id"] for task in json.loads(first)] == sorted(TASKS) and others == [""] * 511
    assert by_name["TASKS"] == alone["TASKS"]


@pytest.fixture(scope="module")
def changed(small_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A Triton on the loopback of IPv6, with a damaged package, whose PATH has another Python."""
    repository = Path(shutil.copytree(small_repository, tmp_path_factory.mktemp("changed") / "repository"))
    store = Store(repository / "store")
    (store.package_folder(store.manifest().tasks["t-3"]) / "task.json").write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/usr/bin:/bin")
        patch.delenv("VIRTUAL_ENV", raising=False)
        patch.delenv("PYTHONPATH", raising=False)
        with unwatched(repository, free_endpoints(address="::1")) as running:
            yield running


def test_one_damaged_package_does_not_keep_the_others_down(changed: TritonServer) -> None:
    with ScoringClient(changed.endpoints.grpc_url) as client:
        statuses = [s.status for s in client.score([Response("t-3", "the"), Response("t-2", "the")])]
    assert statuses == [Status.TASK_UNAVAILABLE, Status.OK]


def test_a_published_version_is_served_and_the_old_one_stays_pinnable(changed: TritonServer, tmp_path: Path) -> None:
    backbone = Backbone.open(changed.repository / "backbone" / "1")
    text = "the router hands out addresses"
    with ScoringClient(changed.endpoints.grpc_url) as client:
        (old,) = client.score([Response("t-1", text)])
        folders = [make_adapter(tmp_path / t, backbone.spec, t, seed=77) for t in ("t-1", "brand-new")]
        Store(changed.repository / "store").add(folders, backbone)
        new, fresh, pinned = client.score(
            [Response("t-1", text), Response("brand-new", text), Response(f"t-1@{old.version}", text)]
        )
    assert new.ok and fresh.ok
    assert new.version != old.version
    assert pinned.probabilities == old.probabilities != new.probabilities


def test_a_server_listens_on_ip_6_too(changed: TritonServer) -> None:
    for way in (changed.endpoints.grpc_url, HttpTransport(changed.endpoints.http_url)):
        with ScoringClient(way) as client:
            assert client.score([Response("t-1", "a b c")])[0].ok
    with urllib.request.urlopen(changed.endpoints.metrics_url, timeout=60) as answer:
        assert b"nv_inference" in answer.read()


class CachedServer(TritonServer):
    """A Triton whose scorer is to answer from Triton's response cache."""

    def command(self, folder: Path, key: str) -> list[str]:
        words = super().command(folder, key)
        with (folder / "models" / "scorer" / "config.pbtxt").open("a") as config:
            config.write("response_cache { enable: true }\n")
        return [*words, "--cache-config=local,size=1048576", f"--cache-directory={self.installation.folder}/caches"]


def test_tritons_response_cache_is_refused(small_repository: Path) -> None:
    server = CachedServer(small_repository, free_endpoints())
    try:
        server.launch()
        with pytest.raises(StartError, match="enables response_cache"):
            server.wait_until_ready()
    finally:
        server.stop()


def test_a_server_starts_once_tests_itself_notes_rows_and_logs_no_key(server: TritonServer) -> None:
    kept = {path.name for path in server.run.path.iterdir()}
    assert {"selftest-passed", "rows-in-flight", "arithmetic"} <= kept
    assert "-f32" in server.arithmetic
    assert server.log and server._key not in server.log.read_text()
    with pytest.raises(SetupError, match="started already"):
        server.launch()


@pytest.mark.nightly
@pytest.mark.parametrize("precision", [p for p in computed_precisions() if p != "float32"])
def test_every_precision_of_openvino_is_served_bit_for_bit(small_repository: Path, precision: str) -> None:
    rows = responses(40)
    choice = RunnerChoice("openvino", precision=precision)
    expected = Engine.open(small_repository, runner=choice).score([r.text for r in rows], [r.task for r in rows])
    with (
        unwatched(small_repository, profile=Profile(precision=precision)) as server,
        ScoringClient(server.endpoints.grpc_url) as client,
    ):
        got = client.score(rows)
    assert [(s.level, s.probabilities, s.version) for s in got] == [
        (s.level, s.probabilities, s.version) for s in expected
    ]


@pytest.mark.nightly
def test_a_stop_asks_nothing_of_who_has_the_ports_of_a_dead_server(small_repository: Path) -> None:
    with unwatched(small_repository) as dead:
        os.kill(dead.process.pid, signal.SIGKILL)
        while dead.process.exit_status is None:
            time.sleep(0.01)
        with unwatched(small_repository, dead.endpoints) as other, ScoringClient(other.endpoints.grpc_url) as client:
            assert not dead._refuse_rows() and other._listens()
            dead.stop()
            assert client.score(responses(3))[0].ok


def call(port: int, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body="{}" if method == "POST" else None, headers=headers or {})
    answer = connection.getresponse()
    status, text = answer.status, answer.read().decode()
    connection.close()
    return status, text


@pytest.mark.parametrize(("method", "path"), RESTRICTED)
def test_over_http_strangers_change_nothing(server: TritonServer, method: str, path: str) -> None:
    for headers in ({}, {KEY_HEADER: "wrong"}, {KEY_HEADER: ""}):
        status, text = call(server.endpoints.http, method, path, headers)
        assert status == 403, text
        assert "restricted" in text


def test_over_grpc_strangers_change_nothing(server: TritonServer) -> None:
    calls = {
        "index": lambda c, h: c.get_model_repository_index(headers=h),
        "load": lambda c, h: c.load_model("scorer", headers=h),
        "unload": lambda c, h: c.unload_model("scorer", headers=h),
        "shm": lambda c, h: c.register_system_shared_memory("x", "/x", 8, headers=h),
        "shm status": lambda c, h: c.get_cuda_shared_memory_status(headers=h),
        "trace": lambda c, h: c.update_trace_settings(settings={"trace_level": "TENSORS"}, headers=h),
        "log": lambda c, h: c.update_log_settings({"log_file": "/tmp/x"}, headers=h),
    }
    with triton.InferenceServerClient(server.endpoints.grpc_url) as client:
        for make in calls.values():
            for headers in (None, {f"triton-grpc-protocol-{KEY_HEADER}": "wrong"}):
                with pytest.raises(triton.InferenceServerException, match="restricted"):
                    make(client, headers)
        assert client.is_server_live() and client.is_model_ready("scorer")


def test_the_watcher_has_the_key_on_both_roads(server: TritonServer) -> None:
    key = server._key
    assert call(server.endpoints.http, "POST", "/v2/repository/index", {KEY_HEADER: key})[0] == 200
    with triton.InferenceServerClient(server.endpoints.grpc_url) as client:
        index = client.get_model_repository_index(headers={f"triton-grpc-protocol-{KEY_HEADER}": key})
    assert [model.name for model in index.models] == ["scorer"]
