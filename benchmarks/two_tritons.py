"""Two Tritons behind the front door, one of them killed every few seconds, under load: rows lost, rows wrong.

python -m benchmarks.two_tritons --repository model_repository --seconds 300
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.doors import furnish
from benchmarks.healing import left_over, ours
from benchmarks.provenance import ROOT, record
from benchmarks.senders import Senders, made_up_rows
from benchmarks.watched import watched
from scoremux_client import Response, Retries, ScoringClient, Tls, TransportError
from scoremux_engine.engine import Engine
from scoremux_server.endpoints import Endpoints
from scoremux_server.front_door.door import FrontDoor
from scoremux_server.profile import Profile
from scoremux_server.server import Server
from scoremux_server.watch.health_endpoint import HealthEndpoint
from scoremux_server.watch.watcher import Watcher

ROWS, DIFFERENT = 64, 512
console = Console(highlight=False)


@contextmanager
def ready(repository: Path, profile: Profile, name: str, folder: Path) -> Iterator[tuple[Server, Watcher]]:
    """Serve under a watcher that says on its port whether it is ready."""
    server = Server(repository, Endpoints.choose(), log=folder / f"{name}.log", profile=profile)
    with watched(server) as watcher, HealthEndpoint(watcher.health, "127.0.0.1", server.endpoints.watch):
        yield server, watcher


class Load(Senders):
    """Clients of both protocols that score rows without a pause and compare each outcome with the engine's."""

    def __init__(self, port: int, tls: Tls, token: str, rows: list[Response], expected: list[Any]) -> None:
        urls = [f"{scheme}://localhost:{port}" for scheme in ("grpcs", "https")]
        super().__init__(self._send, [(url, number) for number, url in enumerate(urls)])
        self._rows, self._expected = rows, expected
        self._keys: dict[str, Any] = {"tls": tls, "token": token, "retries": Retries(patience_s=60), "window": 2}
        self._lock = threading.Lock()
        self.scored = self.lost = self.wrong = 0
        self.answered_at: list[float] = []
        self.errors: list[str] = []

    def _send(self, url: str, seed: int) -> None:
        draw = random.Random(seed)
        with ScoringClient(url, chunk_rows=ROWS // 2, **self._keys) as client:
            while not self.stop.is_set():
                chosen = [draw.randrange(len(self._rows)) for _ in range(ROWS)]
                try:
                    outcomes = client.score([self._rows[i] for i in chosen])
                except TransportError as error:
                    with self._lock:
                        self.lost += ROWS
                        self.errors.append(str(error))
                    continue
                wrong = sum(outcome != self._expected[i] for outcome, i in zip(outcomes, chosen, strict=True))
                with self._lock:
                    self.scored += len(outcomes)
                    self.wrong += wrong
                    self.answered_at.append(time.monotonic())


def measure(repository: Path, profile_name: str, seconds: float, every_s: float) -> dict[str, Any]:
    """Run it all; return the figures."""
    profile, before = Profile.read(profile_name), ours()
    engine = Engine.open(repository, runner=profile.choice)
    rows = made_up_rows(engine.bank.tasks, DIFFERENT, random.Random(2))
    expected = engine.score([row.text for row in rows], [row.task for row in rows])
    del engine
    reports: list[str] = []
    kills = 0
    with ExitStack() as stack, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pairs = [stack.enter_context(ready(repository, profile, name, folder)) for name in ("first", "second")]
        file, tls, token, port = furnish(folder, [server for server, _ in pairs])
        stack.enter_context(FrontDoor(file, folder / "haproxy.log", report=reports.append))
        with Load(port, tls, token, rows, expected) as load:
            time.sleep(2)
            ends = time.monotonic() + seconds
            while (strikes_at := time.monotonic() + every_s) < ends:
                server, watcher = pairs[kills % 2]
                if watcher.health.ready:
                    os.kill(server.process.pid, signal.SIGKILL)
                    kills += 1
                time.sleep(max(0.0, strikes_at - time.monotonic()))
        gaps = [b - a for a, b in zip(load.answered_at, load.answered_at[1:], strict=False)]
        restarts = sum(watcher.health.restarts for _, watcher in pairs)
    figures = {"seconds": seconds, "every_s": every_s, "kills": kills, "restarts": restarts, "profile": profile_name}
    figures |= {"rows": load.scored, "lost": load.lost, "wrong": load.wrong, "errors": load.errors[:5]}
    figures |= {
        "rows_per_s": load.scored / seconds,
        "longest_gap_s": max(gaps),
        "median_gap_s": statistics.median(gaps),
    }
    return {**figures, "door_reports": reports, "left_over": left_over(before)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository")
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--every", type=float, default=10)
    args = parser.parse_args()
    figures = measure(args.repository, args.profile, args.seconds, args.every)
    console.print(figures)
    record("two_tritons", f"python -m benchmarks.two_tritons --seconds {args.seconds:.0f}", figures)


if __name__ == "__main__":
    main()
