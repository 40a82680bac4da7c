"""What changes a real Triton takes the key of its start."""

from __future__ import annotations

import http.client

import pytest
from tritonclient import grpc as triton

from restricted import RESTRICTED
from scoremux_server.triton.command_line import KEY_HEADER
from scoremux_server.triton.server import TritonServer

pytestmark = pytest.mark.triton


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


def test_the_key_is_in_no_log(server: TritonServer) -> None:
    assert server.log and server._key not in server.log.read_text()


def test_the_watcher_has_the_key_on_both_roads(server: TritonServer) -> None:
    key = server._key
    assert call(server.endpoints.http, "POST", "/v2/repository/index", {KEY_HEADER: key})[0] == 200
    with triton.InferenceServerClient(server.endpoints.grpc_url) as client:
        index = client.get_model_repository_index(headers={f"triton-grpc-protocol-{KEY_HEADER}": key})
    assert [model.name for model in index.models] == ["scorer"]
