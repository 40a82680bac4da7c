"""What changes a real Triton takes the key of its start."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest
from tritonclient import grpc as triton

from restricted import RESTRICTED
from scoremux_server.triton.command_line import KEY_HEADER
from watching import Watched, watched

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def serving(small_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(small_repository, tmp_path_factory.mktemp("log") / "triton.log") as watch:
        yield watch


def call(port: int, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body="{}" if method == "POST" else None, headers=headers or {})
    answer = connection.getresponse()
    status, text = answer.status, answer.read().decode()
    connection.close()
    return status, text


@pytest.mark.parametrize(("method", "path"), RESTRICTED)
def test_over_http_strangers_change_nothing(serving: Watched, method: str, path: str) -> None:
    for headers in ({}, {KEY_HEADER: "wrong"}, {KEY_HEADER: ""}):
        status, text = call(serving.server.endpoints.http, method, path, headers)
        assert status == 403, text
        assert "restricted" in text


def test_over_grpc_strangers_change_nothing(serving: Watched) -> None:
    calls = {
        "index": lambda c, h: c.get_model_repository_index(headers=h),
        "load": lambda c, h: c.load_model("scorer", headers=h),
        "unload": lambda c, h: c.unload_model("scorer", headers=h),
        "shm": lambda c, h: c.register_system_shared_memory("x", "/x", 8, headers=h),
        "shm status": lambda c, h: c.get_cuda_shared_memory_status(headers=h),
        "trace": lambda c, h: c.update_trace_settings(settings={"trace_level": "TENSORS"}, headers=h),
        "log": lambda c, h: c.update_log_settings({"log_file": "/tmp/x"}, headers=h),
    }
    with triton.InferenceServerClient(serving.server.endpoints.grpc_url) as client:
        for make in calls.values():
            for headers in (None, {f"triton-grpc-protocol-{KEY_HEADER}": "wrong"}):
                with pytest.raises(triton.InferenceServerException, match="restricted"):
                    make(client, headers)
        assert client.is_server_live() and client.is_model_ready("scorer")


def test_the_key_is_in_no_log(serving: Watched) -> None:
    key = serving.server._key
    assert key not in serving.server.log.read_text()
    assert key not in " ".join(serving.reports)


def test_the_watcher_has_the_key_on_both_roads(serving: Watched) -> None:
    key = serving.server._key
    assert call(serving.server.endpoints.http, "POST", "/v2/repository/index", {KEY_HEADER: key})[0] == 200
    with triton.InferenceServerClient(serving.server.endpoints.grpc_url) as client:
        index = client.get_model_repository_index(headers={f"triton-grpc-protocol-{KEY_HEADER}": key})
    assert [model.name for model in index.models] == ["scorer"]
