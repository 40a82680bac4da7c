"""`scoremux score --engine ray` on a cluster of two nodes on this machine: the same job, whatever is killed.

Ray is imported in processes of its own alone: beside other tests in one process it was seen to abort.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from batch_jobs import alerts, arguments, content, finish, people, write_sources, write_worrying
from peers import answer, listening, worrying

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")

ROWS = 2000

CLUSTER = """
import json, sys
from ray.cluster_utils import Cluster

node = {"num_cpus": 1, "object_store_memory": 100 << 20}
cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
cluster.add_node(**node)
raylets = [process.process.pid for node in cluster.list_all_nodes() for process in node.all_processes["raylet"]]
print(json.dumps([cluster.address, raylets]), flush=True)
sys.stdin.read()
cluster.shutdown()
"""


class RayCluster(NamedTuple):
    """A cluster: its address, and the process of each node that starts the node's workers."""

    address: str
    raylets: list[int]

    def scorers(self) -> list[psutil.Process]:
        children = [child for raylet in self.raylets for child in psutil.Process(raylet).children()]
        return [child for child in children if child.cmdline()[:1] and "SliceScorer" in child.cmdline()[0]]


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
def cluster() -> Iterator[RayCluster]:
    # On a machine whose disk has just been filled with a fresh installation, Ray's first process starts slowly.
    environment = {**os.environ, "RAY_gcs_server_port_wait_time_s": "120"}
    command, pipe = [sys.executable, "-c", CLUSTER], subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        line = next((line for line in process.stdout if line.startswith("[")), None)
        assert line, "Ray did not start"
        yield RayCluster(*json.loads(line))
        process.communicate("")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_sources(tmp_path_factory.mktemp("sources") / "in", ROWS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, sources: list[Path], url: str) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    finish(arguments(sources, out, url))
    return out


def start(
    sources: list[Path], out: Path, url: str, cluster: RayCluster, options: Sequence[str] = ()
) -> subprocess.Popen[str]:
    command = [*arguments(sources, out, url), *options, "--engine", "ray", "--workers", "2"]
    environment = {**os.environ, "RAY_ADDRESS": cluster.address}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for_parts(process: subprocess.Popen[str], out: Path, parts: int) -> None:
    while len(list(out.glob("part-*"))) < parts:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def kill_scorers(cluster: RayCluster) -> None:
    scorers = cluster.scorers()
    assert scorers
    for scorer in scorers:
        scorer.send_signal(signal.SIGKILL)


def assert_same(out: Path, whole: Path) -> None:
    assert content(out) == content(whole)
    assert (out / "_journal.jsonl").read_bytes() == (whole / "_journal.jsonl").read_bytes()


def test_ray_job_resumes(tmp_path: Path, sources: list[Path], url: str, cluster: RayCluster, whole: Path) -> None:
    first = start(sources, tmp_path / "out", url, cluster)
    wait_for_parts(first, tmp_path / "out", 2)
    first.kill()
    first.communicate()
    assert content(tmp_path / "out") != content(whole)
    second = start(sources, tmp_path / "out", url, cluster)
    _, errors = second.communicate(timeout=240)
    assert second.returncode == 3, errors
    assert "resuming: " in errors
    assert_same(tmp_path / "out", whole)


@pytest.mark.nightly
def test_alerts_and_read_behind_of_a_ray_job_are_those_of_a_local_one(tmp_path: Path, cluster: RayCluster) -> None:
    source = write_worrying(tmp_path, ROWS)
    with listening(slowly_worrying, threads=4) as url:
        finish([*arguments([source], tmp_path / "whole", url), *people(source)])
        process = start([source], tmp_path / "out", url, cluster, people(source))
        while len(alerts(tmp_path / "out" / "_alerts")) < 10:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        kill_scorers(cluster)
        _, errors = process.communicate(timeout=240)
    assert process.returncode == 4, errors
    assert_same(tmp_path / "out", tmp_path / "whole")
    lines = sorted(row["line"] for row in alerts(tmp_path / "out" / "_alerts"))  # tasks are scored one after the other
    assert lines == [n + 1 for n in range(ROWS) if n % 50 in (0, 2)]


@pytest.mark.nightly
def test_ray_address_without_a_cluster_is_refused_at_once(tmp_path: Path, sources: list[Path]) -> None:
    command = [*arguments(sources, tmp_path / "out", "127.0.0.1:9"), "--engine", "ray"]
    environment = {**os.environ, "RAY_ADDRESS": "127.0.0.1:9"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 2
    assert "cannot be started or reached (RAY_ADDRESS='127.0.0.1:9'): Connection refused" in ended.stderr
    assert not (tmp_path / "out").exists()
