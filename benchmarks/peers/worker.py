"""The process that one peer runs in: commands on its standard input, answers on its standard output, a line each."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.memory import resident_bytes
from benchmarks.peers.peer import Peer, PeerSpec
from benchmarks.peers.traffic import serve
from benchmarks.saf import SafRow


class Worker:
    """A loaded peer and the rows that commands name by number."""

    def __init__(self, spec: PeerSpec, scratch: str, rows: Sequence[SafRow]) -> None:
        self._rows = rows
        started = time.perf_counter()
        self.peer: Peer = spec.make(scratch)
        self.load_s = time.perf_counter() - started

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry out one command. Raises KeyError for one that is not known."""
        handlers: dict[str, Callable[..., dict[str, Any]]] = {
            "logits": self._logits,
            "singly": self._singly,
            "traffic": self._traffic,
            "memory": self._memory,
        }
        return handlers[command.pop("do")](**command)

    def _pick(self, numbers: Sequence[int]) -> list[SafRow]:
        return [self._rows[i] for i in numbers]

    def _logits(self, numbers: Sequence[int], out: str | None = None) -> dict[str, Any]:
        """Score all rows in one call; `out`: where to save the logits."""
        rows = self._pick(numbers)
        started = time.perf_counter()
        logits = self.peer.logits(rows)
        took_s = time.perf_counter() - started
        if out:
            np.save(out, logits)
        return {"took_s": took_s}

    def _singly(self, numbers: Sequence[int], out: str | None = None) -> dict[str, Any]:
        """Score row after row, each in a call of its own."""
        seconds, logits = [], []
        for row in self._pick(numbers):
            started = time.perf_counter()
            logits.append(self.peer.logits([row])[0])
            seconds.append(time.perf_counter() - started)
        if out:
            np.save(out, np.stack(logits))
        return {"seconds": seconds}

    def _traffic(self, numbers: Sequence[int], arrivals_s: Sequence[float], give_up_s: float) -> dict[str, Any]:
        return serve(self.peer, self._pick(numbers), arrivals_s, give_up_s)

    def _memory(self) -> dict[str, Any]:
        return {"rss_bytes": resident_bytes(self.peer.pid), "weights_bytes": self.peer.weights_bytes()}


def main() -> None:
    # Libraries print what they like; answers get a descriptor that no library knows.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    spec = PeerSpec(**json.loads(sys.argv[1]))
    rows = [SafRow(**json.loads(line)) for line in Path(sys.argv[3]).read_text(encoding="utf-8").splitlines()]
    worker = None
    try:
        worker = Worker(spec, sys.argv[2], rows)
        say({"load_s": worker.load_s})
        for line in sys.stdin:
            say(worker.answer(json.loads(line)))
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"})
        raise
    finally:
        if worker:
            worker.peer.close()


if __name__ == "__main__":
    main()
