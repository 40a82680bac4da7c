"""A server whose store is in a bucket of S3 (moto): it follows what is published there, and goes on in an outage."""

import json
import shutil
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from making import make_adapter
from scoremux_client import Response, ScoringClient
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.store.store import Store
from serving import run_here, serving
from waiting import free_port, until

pytestmark = pytest.mark.nightly
_moto = pytest.importorskip("moto.server", reason="make nightly installs moto and s3fs")
_KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_DEFAULT_REGION": "us-east-1"}
_LIMITS = json.dumps({"config_kwargs": {"connect_timeout": 1, "retries": {"max_attempts": 0}}})


class Bucket:
    """A bucket, and the programme that copies its store there."""

    def __init__(self, own: Store, port: int) -> None:
        import boto3

        self.own, self._server = own, _moto.ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
        self._server.start()
        self.client = boto3.client("s3")
        self.client.create_bucket(Bucket="exams")

    def copy(self, damaged: bool = False) -> None:
        """Copy packages, levels and at last the manifest; `damaged`: the tensors are cut."""
        packages, last = sorted(self.own.packages_path.rglob("*/*")), ("levels.jsonl", "manifest.json")
        for path in (*packages, *(self.own.folder / name for name in last)):
            body = path.read_bytes()
            cut = damaged and path.suffix == ".safetensors"
            key = f"store/{path.relative_to(self.own.folder).as_posix()}"
            self.client.put_object(Bucket="exams", Key=key, Body=body[:-1] if cut else body)

    def stop(self) -> None:
        self._server.stop()


@pytest.fixture
def bucket(own_repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    port = free_port()
    for name, value in {**_KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "FSSPEC_S3": _LIMITS}.items():
        monkeypatch.setenv(name, value)
    shutil.move(own_repository / "store", own_repository / "own")
    bucket = Bucket(Store(own_repository / "own"), port)
    yield bucket
    bucket.stop()


def test_server_follows_a_bucket_refuses_a_cut_object_and_goes_on_in_an_outage(
    bucket: Bucket, own_repository: Path, tmp_path: Path
) -> None:
    bucket.copy()
    here, task = own_repository / "store", "t-1"
    followed = run_here("tasks", "follow", "s3://exams/store", "--store", here)
    assert followed.returncode == 0, followed

    with serving(own_repository, tmp_path) as server, ScoringClient(server.endpoints.grpc_url) as client:

        def version() -> str:
            (row,) = client.score([Response(task, "a router")])
            assert row.ok, row
            return row.version

        def said() -> str:
            with urllib.request.urlopen(f"{server.endpoints.watch_url}/readyz", timeout=5) as answer:
                return str(json.loads(answer.read()).get("store_cause", ""))

        def publish(seed: int, **options: Any) -> str:
            backbone = Backbone.open(own_repository / "backbone" / "1")
            adapter = make_adapter(tmp_path / f"{task}-{seed}", backbone.spec, task, seed=seed)
            (change,) = bucket.own.add([adapter], backbone)
            bucket.copy(**options)
            return str(change.after)

        first = version()
        second = publish(71)
        until(lambda: version() == second, within_s=30)
        cut = publish(72, damaged=True)
        until(lambda: f"version {cut[:12]}" in (tmp_path / "triton.log").read_text(), within_s=30)
        assert version() == second and not (here / "packages" / cut).exists()
        bucket.copy()
        until(lambda: version() == cut, within_s=30)
        bucket.stop()
        until(lambda: "EndpointConnectionError" in said(), within_s=60)
        begun = time.monotonic()
        assert [client.score([Response(f"{task}@{v}", "a router")])[0].version for v in (first, second)]
        assert version() == cut and time.monotonic() - begun < 5
