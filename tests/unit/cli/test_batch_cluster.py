"""`scoremux score --engine ray` on a cluster of two nodes on this machine: the same job, whatever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from batch_jobs import alerts, arguments, content, finish, people, write_sources, write_worrying
from peers import answer, listening, worrying

pytest.importorskip("ray", reason="ray is not installed")

ROWS = 2000


def slow(request: Any, context: Any) -> Any:
    time.sleep(0.05)
    return answer(request, context)


def slowly_worrying(request: Any, context: Any) -> Any:
    time.sleep(0.05)
    return worrying(request, context)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with listening(slow, threads=4) as address:
        yield address


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    # On a machine whose disk has just been filled with a fresh installation, Ray's first process starts slowly.
    os.environ["RAY_gcs_server_port_wait_time_s"] = "120"  # noqa: SIM112
    node = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=node)
    try:
        made.add_node(num_cpus=1, object_store_memory=100 << 20)
        yield made
    finally:
        made.shutdown()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_sources(tmp_path_factory.mktemp("sources") / "in", ROWS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, sources: list[Path], url: str) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    finish(arguments(sources, out, url))
    return out


def start(sources: list[Path], out: Path, url: str, cluster: Any, options: Sequence[str] = ()) -> subprocess.Popen[str]:
    command = [*arguments(sources, out, url), *options, "--engine", "ray", "--workers", "2"]
    environment = {**os.environ, "RAY_ADDRESS": cluster.address}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def workers(cluster: Any) -> list[int]:
    """Return the processes that score, of both nodes."""
    nodes = {process.process.pid for node in cluster.list_all_nodes() for process in node.all_processes["raylet"]}
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title, status = (folder / "cmdline").read_bytes(), (folder / "stat").read_text()
        except OSError:
            continue
        if title.startswith(b"ray::MapWorker") and int(status.rpartition(")")[2].split()[1]) in nodes:
            found.append(int(folder.name))
    return found


def wait_for_parts(process: subprocess.Popen[str], out: Path, parts: int) -> None:
    while len(list(out.glob("part-*"))) < parts:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def assert_same(out: Path, whole: Path) -> None:
    assert content(out) == content(whole)
    assert (out / "journal.jsonl").read_bytes() == (whole / "journal.jsonl").read_bytes()


def test_a_worker_that_is_killed_costs_no_row(
    tmp_path: Path, sources: list[Path], url: str, cluster: Any, whole: Path
) -> None:
    process = start(sources, tmp_path / "out", url, cluster)
    wait_for_parts(process, tmp_path / "out", 2)
    scoring = workers(cluster)
    for worker in scoring:
        os.kill(worker, signal.SIGKILL)
    _, said = process.communicate(timeout=90)
    assert process.returncode == 3, said
    assert scoring
    assert_same(tmp_path / "out", whole)


def test_a_job_whose_driver_is_killed_goes_on(
    tmp_path: Path, sources: list[Path], url: str, cluster: Any, whole: Path
) -> None:
    first = start(sources, tmp_path / "out", url, cluster)
    wait_for_parts(first, tmp_path / "out", 2)
    first.kill()
    first.communicate()
    assert content(tmp_path / "out") != content(whole)
    second = start(sources, tmp_path / "out", url, cluster)
    _, said = second.communicate(timeout=90)
    assert second.returncode == 3, said
    assert "resuming: " in said
    assert_same(tmp_path / "out", whole)


def test_alerts_and_read_behind_are_those_of_a_job_without_ray_though_workers_are_killed(
    tmp_path: Path, cluster: Any
) -> None:
    source = write_worrying(tmp_path, ROWS)
    with listening(slowly_worrying, threads=4) as url:
        finish([*arguments([source], tmp_path / "whole", url), *people(source)])
        process = start([source], tmp_path / "out", url, cluster, people(source))
        while len(alerts(tmp_path / "out" / "alerts")) < 10:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        scoring = workers(cluster)
        for worker in scoring:
            os.kill(worker, signal.SIGKILL)
        _, said = process.communicate(timeout=90)
    assert process.returncode == 4, said
    assert scoring
    assert_same(tmp_path / "out", tmp_path / "whole")
    found = [row["line"] for row in alerts(tmp_path / "out" / "alerts")]
    assert found == [n + 1 for n in range(ROWS) if n % 50 in (0, 2)]


def test_a_cluster_that_is_not_there_is_named_at_once_and_nothing_is_left(tmp_path: Path, sources: list[Path]) -> None:
    command = [*arguments(sources, tmp_path / "out", "127.0.0.1:9"), "--engine", "ray"]
    environment = {**os.environ, "RAY_ADDRESS": "127.0.0.1:9"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "RAY_ADDRESS is 127.0.0.1:9, where no Ray is: Connection refused" in ended.stderr
    assert not (tmp_path / "out").exists()
