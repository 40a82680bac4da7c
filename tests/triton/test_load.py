"""perf_analyzer against a real server: mixed batches of the described traffic, and every request counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import perf_input
from benchmarks.perf_analyzer import Load, find_program, measure
from benchmarks.traffic import Traffic
from making import TASKS
from scoremux_server.endpoints import Endpoints
from scoremux_server.server import Server

pytestmark = pytest.mark.triton


def test_every_request_of_closed_and_open_loads_is_counted(small_repository: Path, tmp_path: Path) -> None:
    try:
        program = find_program()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    pool = [(task, f"the host {word} a packet") for task in TASKS for word in ("sends", "lost", "hands")]
    rows = Traffic(rows=64, popularity="distinct").draw([*pool, ("no-such-task", "a row without a score")])
    perf_input.write(rows, tmp_path / "load.json")
    with Server(small_repository, Endpoints.choose(), log=tmp_path / "triton.log") as server:
        urls = server.endpoints.grpc_url, server.endpoints.http_url
        loads = [
            Load("grpc", 1, "concurrency", 4, 60),
            Load("grpc", 16, "rate", 30, 30),
            Load("http", 16, "concurrency", 2, 30),
            Load("http", 1, "rate", 50, 50),
        ]
        for load in loads:
            got = measure(load, program, *urls, tmp_path / "load.json")
            assert got.missing == 0
            assert got.counted.rows == load.batch * (load.requests + load.warm_up)
            assert (got.point.mode, got.point.level) == (load.mode, load.level)
            assert 0 < got.point.p50_ms <= got.point.p99_ms
            assert got.point.compute_ms > 0


def test_a_server_that_is_not_there_is_an_error_and_no_figure(tmp_path: Path) -> None:
    try:
        program = find_program()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    perf_input.write([("t-1", "text")], tmp_path / "load.json")
    port = Endpoints.choose().http
    with pytest.raises(OSError, match="refused"):
        measure(
            Load("grpc", 1, "concurrency", 1, 5), program, f"127.0.0.1:{port}", f"http://127.0.0.1:{port}", tmp_path
        )
