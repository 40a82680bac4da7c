"""A scorer in a process of its own: another checkout's engine, or a peer in an environment of its own.

The child reads commands on its standard input and answers on its standard output, one JSON object a line.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.data import Labelled, read_written
from benchmarks.rows import ROOT

Floats = npt.NDArray[np.float32]
ENGINE, SERVED = "benchmarks.peers.scoremux:ScoremuxEngine", "benchmarks.peers.scoremux:ScoremuxTriton"


Scorers = Mapping[str, tuple[str, Mapping[str, Any]]]
"""Target (`module:Class`) and options by name."""


class Scorer(Protocol):
    """What a child loads. pid: the process that holds the models; its children belong to it."""

    pid: int

    def logits(self, rows: Sequence[Labelled]) -> Floats:
        """Return float32 [B, L], in the order of the rows. Tokenising is part of it."""
        ...

    def weights_bytes(self) -> int:
        """Return the bytes of all weights that are in memory."""
        ...

    def close(self) -> None: ...


class ChildError(Exception):
    """A child cannot do what it was asked; the message is its own."""


def checkout_environment(checkout: Path) -> dict[str, str]:
    """Return an environment in which `scoremux_*` comes from another checkout."""
    folders = [checkout / name for name in ("client", "engine", "export", "server_config")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(folder) for folder in folders)}


def call_aside(target: str, *arguments: object, environment: Mapping[str, str] | None = None) -> None:
    """Call `module:function` with JSON arguments in a process of its own. Raises ChildError with its last words."""
    module, _, name = target.partition(":")
    code = f"import json, sys; from {module} import {name}; {name}(*json.loads(sys.argv[1]))"
    command = [sys.executable, "-c", code, json.dumps(arguments, default=str)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChildError(f"{target} ended with status {done.returncode}: {done.stderr[-2000:]}")


class Child:
    """Starts a scorer and speaks with it. Raises ChildError where it cannot be loaded.

    Args:
        target: `module:Class` of the scorer.
        options: the class's arguments, JSON.
        rows: a JSONL file of the rows that commands name by number (see `write_rows`).
        log: file for what the child prints.
        python: the interpreter, this one by default.
        environment: variables of the child, this process's by default.
    """

    def __init__(
        self,
        target: str,
        options: Mapping[str, Any],
        rows: Path,
        log: Path,
        python: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = log.open("wb")
        quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
        arguments = [target, json.dumps(options, default=str), str(rows)]
        self._process = subprocess.Popen(
            [str(python or sys.executable), "-m", "benchmarks.child", *arguments],
            cwd=ROOT,
            env={**(environment or os.environ), **quiet},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        try:
            self.load_s = float(self._answer()["load_s"])
        except ChildError:
            self.close()
            raise

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Have one command carried out (see `_Worker`). Raises ChildError."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # the child has ended: the missing answer raises
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            with Path(self._log.name).open(encoding="utf-8", errors="replace") as log:
                last = "".join(deque(log, maxlen=1)).strip()
            raise ChildError(f"the process ended with status {self._process.wait()}: {last}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ChildError(answer["error"])
        return answer

    def close(self) -> None:
        """Let the child end; kill it if it does not within a minute."""
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

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def open_children(scorers: Scorers, rows: Path, work: Path) -> Iterator[dict[str, Child]]:
    """Start scorers side by side. Raises ChildError."""
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(Child(target, options, rows, work / f"{number}.log"))
            for number, (name, (target, options)) in enumerate(scorers.items())
        }


def write_rows(rows: Sequence[Labelled], path: Path) -> Path:
    """Write rows for children to read; return the path."""
    path.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")
    return path


class _Worker:
    """A loaded scorer and the rows that commands name by number."""

    def __init__(self, target: str, options: Mapping[str, Any], rows: Sequence[Labelled]) -> None:
        self._rows = rows
        started = time.perf_counter()
        module, _, name = target.partition(":")
        self.scorer: Scorer = getattr(importlib.import_module(module), name)(**options)
        self.load_s = time.perf_counter() - started

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry out one command: `logits`, `singly` or `memory`. Raises AttributeError for another."""
        answer: dict[str, Any] = getattr(self, f"_{command.pop('do')}")(**command)
        return answer

    def _logits(self, numbers: Sequence[int], out: str | None = None) -> dict[str, Any]:
        """Score all rows in one call; `out`: where to save the logits."""
        rows = [self._rows[i] for i in numbers]
        started = time.perf_counter()
        logits = self.scorer.logits(rows)
        took_s = time.perf_counter() - started
        if out:
            np.save(out, logits)
        return {"took_s": took_s}

    def _singly(self, numbers: Sequence[int], out: str | None = None) -> dict[str, Any]:
        """Score row after row, each in a call of its own."""
        seconds, logits = [], []
        for i in numbers:
            started = time.perf_counter()
            logits.append(self.scorer.logits([self._rows[i]])[0])
            seconds.append(time.perf_counter() - started)
        if out:
            np.save(out, np.stack(logits))
        return {"seconds": seconds}

    def _memory(self) -> dict[str, Any]:
        """Return the resident bytes of the scorer's process, and of its children what they share with nobody."""
        import psutil

        process = psutil.Process(self.scorer.pid)
        own = sum(child.memory_full_info().uss for child in process.children(recursive=True))
        return {"rss_bytes": process.memory_info().rss + own, "weights_bytes": self.scorer.weights_bytes()}


def _main() -> None:
    # Libraries print what they like; answers get a descriptor that no library knows.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    target, options, file = sys.argv[1:]
    rows = read_written(Path(file))
    worker = None
    try:
        worker = _Worker(target, json.loads(options), rows)
        say({"load_s": worker.load_s})
        for line in sys.stdin:
            say(worker.answer(json.loads(line)))
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"})
        raise
    finally:
        if worker:
            worker.scorer.close()


if __name__ == "__main__":
    _main()
