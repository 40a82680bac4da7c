"""Kill and stop what serves, under load: how soon rows are scored again, and whether one is lost or wrong.

python -m benchmarks.healing --repository model_repository --kills 50
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.provenance import ROOT, record
from benchmarks.senders import Senders, made_up_rows
from benchmarks.watched import watched
from scoremux_client import NO_RETRIES, Response, ScoringClient, TransportError
from scoremux_engine.store.store import Store
from scoremux_server import processes
from scoremux_server.endpoints import Endpoints
from scoremux_server.profile import Profile
from scoremux_server.run import SHARED_MEMORY
from scoremux_server.server import Server
from scoremux_server.watch.watcher import Watcher

COMMAND = "python -m benchmarks.healing --kills N"
ROWS = 32
console = Console(highlight=False)


class Load(Senders):
    """Clients that send rows without a pause and send a failed request again until it is answered."""

    def __init__(self, url: str, tasks: list[str], clients: int = 2) -> None:
        super().__init__(self._send, [(number,) for number in range(clients)])
        self._rows = made_up_rows(tasks, 256, random.Random(32))
        self._url = url
        self.scored_at = 0.0
        self.scored = self.lost = self.wrong = self.failed = 0
        with ScoringClient(url) as client:
            self._expected = client.score(self._rows)

    def _send(self, number: int) -> None:
        draw = random.Random(number)
        while not self.stop.is_set():
            chosen = [draw.randrange(len(self._rows)) for _ in range(ROWS)]
            outcomes = self._until_answered([self._rows[i] for i in chosen], draw)
            self.lost += ROWS - len(outcomes)
            self.wrong += sum(o != self._expected[i] for o, i in zip(outcomes, chosen, strict=False))
            self.scored += len(outcomes)

    def _until_answered(self, rows: list[Response], draw: random.Random, patience_s: float = 600.0) -> list[Any]:
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            sent = time.monotonic()
            try:
                with ScoringClient(self._url, timeout_s=20, retries=NO_RETRIES) as client:
                    outcomes = client.score(rows)
            except TransportError:
                self.failed += 1
                # At random, as strikes are: in step with them, the same rows would be struck every time.
                time.sleep(draw.uniform(0, 0.2))
                continue
            self.scored_at = max(self.scored_at, sent)
            return outcomes
        return []

    def seconds_until_scored(self, since: float, patience_s: float = 60.0) -> float:
        """Return the seconds from `since` until a request that was sent after it has been scored."""
        while self.scored_at < since and time.monotonic() - since < patience_s:
            time.sleep(0.01)
        return time.monotonic() - since

    def counts(self) -> dict[str, int]:
        """Return rows scored, lost and wrong, and requests that had to be sent again."""
        return {"scored": self.scored, "lost": self.lost, "wrong": self.wrong, "sent_again": self.failed}


def strike(watcher: Watcher, load: Load, victim: Callable[[], int], number: signal.Signals) -> tuple[float, float]:
    """Send a signal; return the seconds until the watcher noticed it, and until rows were scored again."""
    health = watcher.health
    before, since = health.restarts, time.monotonic()
    os.kill(victim(), number)
    while health.restarts == before and time.monotonic() - since < 60:
        time.sleep(0.005)
    noticed = time.monotonic() - since
    # A request may have been on its way back when the signal came: what counts was sent after the watcher noticed.
    load.seconds_until_scored(since + noticed)
    healed = time.monotonic() - since
    while not health.ready and time.monotonic() - since < 90:
        time.sleep(0.01)
    time.sleep(random.uniform(0.1, 1.0))
    return noticed, healed


def summary(times: list[tuple[float, float]]) -> dict[str, float]:
    """Return the median and worst of both."""
    noticed, healed = zip(*times, strict=True)
    return {
        "times": len(times),
        "noticed_median_s": statistics.median(noticed),
        "noticed_most_s": max(noticed),
        "scoring_again_median_s": statistics.median(healed),
        "scoring_again_most_s": max(healed),
    }


def left_over(before: set[str]) -> list[str]:
    """Return regions, locks and folders of ours that were not there before."""
    return sorted(ours() - before)


def ours() -> set[str]:
    """Return what runs of scoremux have on this machine now."""
    # A run's name is 16 hexadecimal digits: other programs' files do not count.
    found = [*SHARED_MEMORY.glob("scoremux_*"), *Path(tempfile.gettempdir()).glob("scoremux-*")]
    return {str(path) for path in found if re.match(r"scoremux[-_][0-9a-f]{16}\b|scoremux_[0-9a-f]{16}_", path.name)}


def under_load(repository: Path, profile: str, kills: int, others: int) -> list[dict[str, Any]]:
    """Strike a watched server again and again; return one row a kind of strike."""
    server = Server(repository, Endpoints.choose(), profile=Profile.read(profile))
    before, rows = ours(), []
    victims = {
        "stub": lambda: next(iter(processes.stubs(server.process.pid))),
        "tritonserver": lambda: server.process.pid,
    }
    tasks = sorted(Store(repository / "store").manifest().tasks)
    with watched(server) as watcher, Load(server.endpoints.grpc_url, tasks) as load:
        time.sleep(1)
        for name, victim in victims.items():
            for number in (signal.SIGKILL, signal.SIGSTOP):
                times = kills if (name, number) == ("stub", signal.SIGKILL) else others
                counts = load.counts()
                struck = [strike(watcher, load, victim, number) for _ in range(times)]
                if struck:
                    moved = {key: value - counts[key] for key, value in load.counts().items()}
                    rows.append({"strike": f"{number.name} of {name}", **summary(struck), **moved})
    return [{**row, "left_over": left_over(before)} for row in rows]


def killed_watchers(repository: Path, profile: str, times: int) -> dict[str, Any]:
    """Kill `scoremux serve` itself: Triton ends with it, within 3 s, and the next start finds the same ports free."""
    before, ports, starts = ours(), Endpoints.choose(), []
    command = [str(Path(sys.executable).with_name("scoremux")), "serve", "--repository", str(repository)]
    command += ["--profile", profile, "--grpc-port", str(ports.grpc), "--http-port", str(ports.http)]
    command += ["--metrics-port=0", "--watch-port=0"]
    processes_left = 0
    for number in range(times + 1):
        started = time.monotonic()
        serving = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert serving.stdout
        for line in serving.stdout:
            if line.startswith("ready;"):
                break
        else:
            raise SystemExit(f"start {number + 1} on the same ports failed")
        starts.append(time.monotonic() - started)
        if number == times:
            serving.terminate()
            serving.wait(90)
            break
        children = Path(f"/proc/{serving.pid}/task/{serving.pid}/children").read_text().split()
        group = processes.group(int(children[0]))
        serving.kill()
        serving.wait()
        time.sleep(3)
        processes_left += sum(bool((seen := processes.look(pid)) and seen.alive) for pid in group)
    figures = {"strike": "SIGKILL of the watcher", "times": times, "next_start_most_s": max(starts)}
    return {**figures, "processes_left": processes_left, "left_over": left_over(before)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository")
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--others", type=int, default=5)
    parser.add_argument("--watchers", type=int, default=4)
    args = parser.parse_args()
    rows = under_load(args.repository, args.profile, args.kills, args.others) if args.kills + args.others else []
    table = Table("strike", "times", "noticed s, median (most)", "scoring again s, median (most)", "lost", "wrong")
    for of in rows:
        cells = (f"{of[f'{what}_median_s']:.1f} ({of[f'{what}_most_s']:.1f})" for what in ("noticed", "scoring_again"))
        table.add_row(of["strike"], str(of["times"]), *cells, str(of["lost"]), str(of["wrong"]))
    console.print(table)
    if args.watchers:
        rows.append(killed_watchers(args.repository, args.profile, args.watchers))
        console.print(rows[-1])
    for row in rows:
        record("healing", COMMAND, {"profile": args.profile, **row})


if __name__ == "__main__":
    main()
