"""A real Triton whose shared memory is small, full, and free again: in a mount namespace of its own."""

import json
import shutil
import stat
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scoremux_client import NO_RETRIES, Response, ScoringClient, UnavailableError
from scoremux_server.triton.endpoints import Endpoints
from serving import SCOREMUX
from waiting import free_endpoints, until

MOUNT = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=$0 tmpfs /dev/shm && exec "$@"']


def may_mount() -> bool:
    return bool(shutil.which("unshare")) and not subprocess.run([*MOUNT, "1m", "true"], capture_output=True).returncode


pytestmark = pytest.mark.skipif(not may_mount(), reason="this user cannot mount a tmpfs")


@contextmanager
def started(repository: Path, scratch: Path, size: str) -> Iterator[tuple[subprocess.Popen[bytes], Endpoints, Path]]:
    ports, output = free_endpoints(), scratch / "out"
    options = [f"--set={name}_port={getattr(ports, name)}" for name in ("grpc", "http", "metrics", "watch")]
    command = [SCOREMUX, "serve", "--repository", str(repository), "--log", str(scratch / "log"), *options]
    with output.open("wb") as file:
        process = subprocess.Popen([*MOUNT, size, *command], stdout=file, stderr=file)
    try:
        yield process, ports, output
    finally:
        process.terminate()
        process.wait(90)


def readyz(ports: Endpoints) -> tuple[int, dict[str, object]]:
    try:
        with urllib.request.urlopen(f"{ports.watch_url}/readyz", timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_start_with_too_little_shared_memory_is_refused(small_repository: Path, tmp_path: Path) -> None:
    with started(small_repository, tmp_path, "8m") as (process, _, output):
        assert process.wait(240) == 2
        assert "/dev/shm has 8 MiB free, and Triton needs 16 at least" in output.read_text()


def test_full_shared_memory_is_unavailable_until_it_is_free(small_repository: Path, tmp_path: Path) -> None:
    with started(small_repository, tmp_path, "40m") as (process, ports, output):
        until(lambda: "ready;" in output.read_text(), process, output.read_text)
        memory = Path("/proc", str(process.pid), "root", "dev", "shm")
        assert {stat.S_IMODE(region.stat().st_mode) for region in memory.iterdir()} == {0o600}
        large = [Response("t-1", f"{number} " + "router " * 9_000) for number in range(64)]
        with ScoringClient(ports.grpc_url, retries=NO_RETRIES, timeout_s=60, chunk_rows=64) as client:
            assert client.score(large[:1])[0].ok
            fill = memory / "fill"
            with pytest.raises(OSError, match="No space left"), fill.open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * (1 << 20))
            status, body = readyz(ports)
            assert status == 503 and int(str(body["shared_memory_free_bytes"])) < 2 << 20
            with pytest.raises(UnavailableError):
                client.score(large)
            fill.unlink()
            until(lambda: readyz(ports)[0] == 200)
            assert all(row.ok for row in client.score(large))
        with urllib.request.urlopen(f"{ports.watch_url}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        assert "scoremux_restarts_total 0.0" in text and "scoremux_shared_memory_free_bytes" in text
