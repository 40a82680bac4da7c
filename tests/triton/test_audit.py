"""The audit log of a real server: a killed stub loses no row that was answered; a full disk ends in refusals."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest

from making import TASKS
from rooms import mounted, root_only
from scoremux_client import NO_RETRIES, Response, ScoringClient, TransportError, UnavailableError
from serving import metrics, serving, value

pytestmark = pytest.mark.triton


def digest(text: str) -> str:
    return f"sha256:{sha256(text.encode()).hexdigest()}"


def lines(folder: Path) -> list[dict[str, object]]:
    files = [file for file in sorted(folder.glob("audit.jsonl*")) if file.suffix != ".lock"]
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.mark.nightly
def test_kill_9_of_the_stub_loses_no_row_that_was_answered(small_repository: Path, tmp_path: Path) -> None:
    answered: dict[str, tuple[str, str, int]] = {}
    stop = threading.Event()

    def load(worker: int) -> None:
        draw = random.Random(worker)
        with ScoringClient(server.endpoints.grpc_url, retries=NO_RETRIES) as client:
            for number in range(100_000):
                if stop.is_set():
                    return
                rows = [Response(draw.choice(list(TASKS)), f"w {worker} n {number} r {r}") for r in range(20)]
                try:
                    scored = client.score(rows)
                except TransportError:
                    time.sleep(0.05)
                    continue
                for row, outcome in zip(rows, scored, strict=True):
                    answered[digest(str(row.text))] = row.task, outcome.version, outcome.level

    settings = (f"audit_log={tmp_path / 'audit.jsonl'}", "audit_rotate_bytes=100000")
    with serving(small_repository, tmp_path, *settings) as server:
        threads = [threading.Thread(target=load, args=(worker,)) for worker in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            before = len(answered)
            while len(answered) < before + 300:
                time.sleep(0.02)
            os.kill(server.stub, signal.SIGKILL)
            server.wait_until("/readyz", 503)
            server.wait_until("/readyz", 200)
        stop.set()
        for thread in threads:
            thread.join()
    written = {line["digest"]: (line["task"], line["version"], line["level"]) for line in lines(tmp_path)}
    assert len(answered) >= 900
    assert {key: written.get(key) for key in answered} == answered
    assert len(list(tmp_path.glob("audit.jsonl.2*"))) > 1
    assert "w 0 n" not in "".join(file.read_text() for file in tmp_path.glob("audit.jsonl*"))


@root_only
def test_on_a_full_disk_rows_are_refused_and_nothing_is_restarted(small_repository: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", 96 << 10):
        path, filler = tmp_path / "small" / "audit.jsonl", tmp_path / "small" / "filler"
        with (
            serving(small_repository, tmp_path, f"audit_log={path}") as server,
            ScoringClient(server.endpoints.grpc_url, retries=NO_RETRIES) as client,
        ):
            rows = [Response("t-1", f"row {number}") for number in range(64)]
            assert all(scored.ok for scored in client.score(rows))
            with suppress(OSError):
                filler.write_bytes(b"x" * (96 << 10))
            with pytest.raises(UnavailableError, match="the audit log cannot be written"):
                for _ in range(8):
                    client.score(rows)
            server.wait_until("/readyz", 503)
            time.sleep(4.5)  # several canaries are refused, and none of them counts as a death
            values = metrics(server.endpoints.metrics_url)
            assert value(values, "scoremux_audit_unwritten_rows_total") >= 64
            filler.unlink()
            server.wait_until("/readyz", 200, within_s=60)
            assert all(scored.ok for scored in client.score(rows))
            watched = metrics(f"{server.endpoints.watch_url}/metrics")
            assert value(watched, "scoremux_restarts_total") == 0
            assert "restarting" not in server.output
