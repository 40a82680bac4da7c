"""A peer in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections import deque
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.peers.peer import PeerSpec
from benchmarks.peers.venv import python_with
from benchmarks.provenance import ROOT


class PeerError(Exception):
    """A peer cannot do what it was asked; the message is its own."""


class Child:
    """Starts the worker and speaks with it. Raises InstallError or PeerError where the peer cannot be had.

    scratch: a folder that all peers share; rows: a JSONL file of SafRow.
    """

    def __init__(self, spec: PeerSpec, scratch: Path, rows: Path) -> None:
        self.spec = spec
        python = python_with(spec.requirements, scratch / "venvs", spec.without)
        self._log = (scratch / f"{spec.name}.log".replace(" ", "_").replace("/", "_")).open("wb")
        self._process = subprocess.Popen(
            [str(python), "-m", "benchmarks.peers.worker", json.dumps(asdict(spec)), str(scratch), str(rows)],
            cwd=ROOT,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        try:
            self.load_s = float(self._answer()["load_s"])
        except PeerError:
            self.close()
            raise

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Have one command carried out. Raises PeerError."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # it has ended: the answer that does not come says how
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._log.flush()
            with Path(self._log.name).open(encoding="utf-8", errors="replace") as log:
                last = "".join(deque(log, maxlen=1)).strip()
            raise PeerError(f"the process ended with status {self._process.wait()}: {last}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def close(self) -> None:
        """Let the peer end; kill it if it does not."""
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
