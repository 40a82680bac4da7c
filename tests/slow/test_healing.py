"""Stubs and Tritons that are killed or stopped under load: how soon rows are scored again, and that none is lost."""

from __future__ import annotations

import os
import random
import re
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from scoremux_client import NO_RETRIES, Response, Retries, Scored, ScoringClient, TransportError
from serving import Serving, serving
from waiting import Result, Scaled, until
from watching import responses

SCORING_AGAIN_S = 3.5
HANG_S = 5.0
PROBE_EVERY_S = 0.05


def run_names(server: Serving) -> set[str]:
    """Return the names of the server's run, 16 hexadecimal digits, as they are in its files' names."""
    return set(re.findall(r"scoremux[-_]([0-9a-f]{16})", " ".join(psutil.Process(server.triton).cmdline())))


def left_over(names: set[str]) -> list[Path]:
    folders = (Path("/dev/shm"), Path(tempfile.gettempdir()))
    return [path for folder in folders for name in names for path in folder.glob(f"scoremux[-_]{name}*")]


@pytest.mark.parametrize(
    ("victim", "strike", "times", "most_s"),
    [
        ("stub", signal.SIGKILL, 20, SCORING_AGAIN_S),
        ("triton", signal.SIGKILL, 20, SCORING_AGAIN_S),
        ("stub", signal.SIGSTOP, 5, SCORING_AGAIN_S + HANG_S),
        ("triton", signal.SIGSTOP, 5, SCORING_AGAIN_S + HANG_S),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_no_row_is_lost_and_scoring_goes_on(
    saf_repository: Path,
    saf_tasks: list[str],
    tmp_path: Path,
    scaled: Scaled,
    result: Result,
    victim: str,
    strike: signal.Signals,
    times: int,
    most_s: float,
) -> None:
    draw, took = random.Random(times), []
    rows = responses(256, 32, saf_tasks)
    with serving(saf_repository, tmp_path, "runner=openvino") as server:
        url = server.endpoints.grpc_url
        with ScoringClient(url) as client:
            expected = client.score(rows)
        retries = Retries(patience_s=120, contact_s=120)
        clients = [lambda: ScoringClient(url, timeout_s=20, retries=retries)] * 2
        names = run_names(server)
        with Load(clients, rows, expected) as load:
            load.wait_for_answer()
            for _ in range(scaled(times)):
                time.sleep(draw.uniform(0.1, 1.0))
                struck_at = time.monotonic()
                os.kill(pid_of(server, victim), strike)
                took.append(seconds_until_scored(url, rows[0], struck_at))
                server.wait_until("/readyz", 200, within_s=90)
    result(
        f"{strike.name} of {'tritonserver' if victim == 'triton' else victim}, {len(took)} times under load",
        f"scoring again in {statistics.median(took):.1f} s ({max(took):.1f} at most), {load.lost} of "
        f"{load.scored:,} rows lost, {load.wrong} wrong",
    )
    assert (load.lost, load.wrong, load.errors) == (0, 0, [])
    assert names and not left_over(names)
    assert statistics.median(took) <= most_s


def seconds_until_scored(url: str, row: Response, since: float, patience_s: float = 60.0) -> float:
    """Return the seconds from `since` until a request that was sent after it is answered; without retries."""
    answers: Any = None
    while answers is None:
        time.sleep(PROBE_EVERY_S)
        assert time.monotonic() - since < patience_s, "nothing is scored any more"
        try:
            with ScoringClient(url, timeout_s=10, retries=NO_RETRIES) as client:
                answers = client.score([row])
        except TransportError:
            continue
    return time.monotonic() - since


def pid_of(server: Serving, victim: str) -> int:
    return server.stub if victim == "stub" else server.triton


class Load:
    """A context manager. Each client scores random `rows` on a thread of its own, with its own retries.

    A request that raises counts all its rows as lost; `wrong` counts rows whose outcome is not the expected one.
    """

    def __init__(
        self, clients: Sequence[Callable[[], ScoringClient]], rows: Sequence[Response], expected: Sequence[Scored]
    ) -> None:
        self.scored = self.lost = self.wrong = 0
        self.errors: list[str] = []
        self._rows, self._expected = rows, expected
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._send, args=pair) for pair in enumerate(clients)]

    def _send(self, seed: int, open_client: Callable[[], ScoringClient], size: int = 64) -> None:
        draw = random.Random(seed)
        with open_client() as client:
            while not self._stop.is_set():
                chosen = [draw.randrange(len(self._rows)) for _ in range(size)]
                try:
                    outcomes = client.score([self._rows[i] for i in chosen])
                except TransportError as error:
                    with self._lock:
                        self.lost += size
                        self.errors.append(str(error))
                    continue
                wrong = sum(outcome != self._expected[i] for outcome, i in zip(outcomes, chosen, strict=True))
                with self._lock:
                    self.scored += size
                    self.wrong += wrong

    def wait_for_answer(self) -> None:
        """Wait until a first request is answered."""
        until(lambda: self.scored, shown=lambda: self.errors)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
