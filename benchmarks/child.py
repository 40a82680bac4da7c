"""A scorer in a process of its own: another checkout's engine, or a peer in an environment of its own.

Both ends speak through a pipe of `multiprocessing`, so that what libraries print goes into a log.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.data import Labelled
from benchmarks.rows import ROOT
from benchmarks.timing import Name

Floats = npt.NDArray[np.float32]
ENGINE, SERVED = "benchmarks.peers.scoremux:ScoremuxEngine", "benchmarks.peers.scoremux:ScoremuxTriton"
Scorers = Mapping[Name, tuple[str, Mapping[str, Any]]]
"""Target (`module:Class`) and options by name."""


class Scorer(Protocol):
    """What a child loads. pid: the process that holds the models; its children belong to it."""

    pid: int

    def logits(self, rows: Sequence[Labelled]) -> Floats:
        """Return float32 [B, L], in the order of the rows. Tokenising is part of it."""
        ...

    def close(self) -> None: ...


class ChildError(Exception):
    """A child cannot do what it was asked; the message is its own."""


def checkout_environment(checkout: Path) -> dict[str, str]:
    """Return an environment in which `scoremux_*` comes from another checkout."""
    folders = [checkout / name for name in ("client", "engine", "evidence", "export", "desk", "server_config")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(folder) for folder in folders)}


def call_aside(target: str, *arguments: object, environment: Mapping[str, str] | None = None) -> None:
    """Call `module:function` with JSON arguments in a process of its own. Raises ChildError with its last words."""
    module, _, name = target.partition(":")
    code = f"import json, sys; from {module} import {name}; {name}(*json.loads(sys.argv[1]))"
    command = [sys.executable, "-c", code, json.dumps(arguments, default=str)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChildError(f"{target} ended with status {done.returncode}: {done.stderr[-2000:]}")


@dataclass
class Aside:
    """A function that runs beside a block. result: what it returned, once the block has ended."""

    result: Any = None


@contextlib.contextmanager
def aside(target: str, *arguments: object) -> Iterator[Aside]:
    """Run `module:function` in a process of its own until the block ends. Its first argument is set then."""
    module, _, name = target.partition(":")
    code = "import sys, json; from benchmarks.child import until_told; "
    code += f"from {module} import {name}; print(json.dumps({name}(until_told(), *json.loads(sys.argv[1]))))"
    command = [sys.executable, "-c", code, json.dumps(arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    running = Aside()
    try:
        yield running
    finally:
        running.result = json.loads(process.communicate(timeout=120)[0] or b"null")


def until_told() -> threading.Event:
    """Return an event that is set when standard input ends."""
    stop = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    return stop


class Child:
    """Starts a scorer and calls it. Raises ChildError where it cannot be loaded.

    Args:
        target: `module:Class` of the scorer.
        options: The class's arguments.
        rows: The rows that calls name by number.
        log: File for what the child prints.
        python: The interpreter, this one by default.
        environment: Variables of the child, this process's by default.
    """

    def __init__(
        self,
        target: str,
        options: Mapping[str, Any],
        rows: Sequence[Labelled],
        log: Path,
        python: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log, quiet = log, {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
        self._pipe, other = multiprocessing.Pipe()
        with log.open("wb") as output, other:
            self._process = subprocess.Popen(
                [str(python or sys.executable), "-m", "benchmarks.child", str(other.fileno())],
                cwd=ROOT,
                env={**(environment or os.environ), **quiet},
                pass_fds=[other.fileno()],
                stdout=output,
                stderr=output,
            )
        try:
            self._ask(target, dict(options), [astuple(row) for row in rows])
        except ChildError:
            self.close()
            raise

    def logits(self, numbers: Sequence[int]) -> tuple[float, Floats]:
        """Score rows in one call; return the seconds and float32 [B, L]. Raises ChildError."""
        took_s, logits = self._ask("logits", numbers)
        return took_s, logits

    def singly(self, numbers: Sequence[int]) -> tuple[list[float], Floats]:
        """Score row after row, each in a call of its own; return each one's seconds and float32 [B, L]."""
        calls = [self.logits([number]) for number in numbers]
        return [took_s for took_s, _ in calls], np.concatenate([logits for _, logits in calls])

    def processor_s(self) -> float:
        """Return the user and system time that the child's process and its children have taken."""
        import psutil

        from benchmarks.serving import processor_s

        return processor_s(psutil.Process(self._process.pid))

    def setting(self) -> str:
        """Return the setting that the scorer chose; empty where it has none."""
        return str(self._ask("setting")[0])

    def rss_bytes(self) -> int:
        """Return the resident bytes of the scorer's process, and of its children what they share with nobody."""
        import psutil

        process = psutil.Process(self._ask("memory"))
        alone = sum(child.memory_full_info().uss for child in process.children(recursive=True))
        return int(process.memory_info().rss + alone)

    def _ask(self, *words: Any) -> Any:
        try:
            self._pipe.send(words)
            answer = self._pipe.recv()
        except (EOFError, OSError):
            last = self._log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
            raise ChildError(f"the process ended with status {self._process.wait()}: {last}") from None
        if isinstance(answer, str):
            raise ChildError(answer)
        return answer

    def close(self) -> None:
        """Let the child end; kill it if it does not within a minute."""
        self._pipe.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def open_children(scorers: Scorers[Name], rows: Sequence[Labelled], work: Path) -> Iterator[dict[Name, Child]]:
    """Start scorers side by side. Raises ChildError."""
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(Child(target, options, rows, work / f"beside-{number}.log"))
            for number, (name, (target, options)) in enumerate(scorers.items())
        }


def _answer(pipe: Connection) -> None:
    """Load a scorer and answer calls until the other end is closed; a failure is answered with its sentence."""
    target, options, tuples = pipe.recv()
    rows = [Labelled(*values) for values in tuples]
    module, _, name = target.partition(":")
    scorer: Scorer = getattr(importlib.import_module(module), name)(**options)
    try:
        pipe.send(True)
        while True:
            kind, *arguments = pipe.recv()
            if kind == "memory":
                pipe.send(scorer.pid)
                continue
            if kind == "setting":
                pipe.send((str(getattr(scorer, "setting", "")),))
                continue
            chosen, started = [rows[number] for number in arguments[0]], time.perf_counter()
            logits = scorer.logits(chosen)
            pipe.send((time.perf_counter() - started, logits))
    finally:
        scorer.close()


if __name__ == "__main__":
    with Connection(int(sys.argv[1])) as end:
        try:
            _answer(end)
        except EOFError:
            pass
        except Exception as error:
            end.send(f"{type(error).__name__}: {error}")
            raise
