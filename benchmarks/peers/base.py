"""What a peer is, and the virtual environments that some of them need."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.child import Child, Floats
from benchmarks.data import Labelled, minilm
from benchmarks.peers import batches

LEVELS, RANK = 5, 8
BATCHES = (32, 128, 256)
"""Rows of a batch that a peer may choose from."""
TRIED_ROWS = 1024


@dataclass(frozen=True, eq=False)
class Peer:
    """A way to score the 27 tasks: one line of the table.

    Attributes:
        name: as the table shows it.
        target: `module:Class` under benchmarks.peers; a `benchmarks.child.Scorer` made with `scratch`, a folder that
            all peers of a run share, and `options`.
        requirements: packages that only this peer needs; it then runs in a virtual environment of its own.
        default: the setting that users run by default, not the fastest that was found.
        reference: what all others are compared with, in every run.
        heavy: takes gigabytes, so that only the reference is loaded beside it.
        rounds: at most so many timed rounds; 0: as many as asked for.
    """

    name: str
    target: str
    options: dict[str, Any] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    default: bool = False
    reference: bool = False
    heavy: bool = False
    rounds: int = 2


class Setting(NamedTuple):
    """How a peer computes: the precision, and the most rows of a batch."""

    precision: str
    rows: int

    def __str__(self) -> str:
        return f"{self.precision}, {self.rows} rows".removeprefix(", ")


class Batched:
    """A scorer of batches. Subclasses say how rows are batched (by task and length unless they do) and score a batch.

    Of several settings, the first call keeps the one that is fastest for its first rows.

    at_once: batches that run side by side.
    """

    at_once = 1

    def __init__(self, precisions: Sequence[str] = ("",), rows: Sequence[int] = BATCHES) -> None:
        self.pid = os.getpid()
        self.tokens = batches.TokenIds()
        self._settings = [Setting(precision, most) for precision in precisions for most in rows]
        self.setting = self._settings[0]

    def parts(self, rows: Sequence[Labelled], ids: Sequence[list[int]]) -> list[list[int]]:
        """Return the batches, as row numbers."""
        return batches.by_task_and_length(rows, ids, self.setting.rows)

    def run(self, tasks: Sequence[str], ids: Sequence[list[int]]) -> Floats:
        """Return the logits of one batch, float32 [B, 5]."""
        raise NotImplementedError

    def logits(self, rows: Sequence[Labelled]) -> Floats:
        if len(self._settings) > 1:
            self.setting = min(self._settings, key=lambda setting: self._seconds(setting, rows[:TRIED_ROWS]))
            self._settings = [self.setting]
        return self._logits(rows)

    def _seconds(self, setting: Setting, rows: Sequence[Labelled]) -> float:
        self.setting = setting
        self._logits(rows)  # kernels are made for each new shape
        started = time.perf_counter()
        self._logits(rows)
        return time.perf_counter() - started

    def _logits(self, rows: Sequence[Labelled]) -> Floats:
        ids = self.tokens.of(rows)
        parts = self.parts(rows, ids)
        return batches.scattered(
            len(rows), parts, lambda part: self.run([rows[i].task for i in part], [ids[i] for i in part]), self.at_once
        )

    def close(self) -> None: ...


def classifier(folder: Path | None = None, **options: Any) -> Any:
    """Return transformers' own sequence classifier of MiniLM, or of a folder, in eval mode."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    options = {} if folder else {"num_labels": LEVELS, **options}
    return transformers.AutoModelForSequenceClassification.from_pretrained(str(folder or minilm()), **options).eval()


class InstallError(Exception):
    """A peer's packages cannot be installed here; the message is pip's own last line."""


def python_with(peer: Peer, parent: Path, timeout_s: float = 900) -> Path:
    """Return a Python that has the peer's requirements, and everything else from this one. Raises InstallError.

    The environment lies in `parent`, named after the requirements, and is made once. What this Python has comes behind
    the environment's own packages: a version that a requirement brings wins, and torch is the same for all peers.
    """
    if not peer.requirements:
        return Path(sys.executable)
    folder = parent / hashlib.sha256("\n".join(peer.requirements).encode()).hexdigest()[:12]
    python, finished = folder / "bin" / "python", folder / "finished"
    if finished.exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    library = {str(Path(os.__file__).parent), str(Path(os.__file__).parent / "lib-dynload")}
    behind = [entry for entry in sys.path if entry and Path(entry).is_dir() and entry not in library]
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "zz_parent.pth").write_text("\n".join(behind) + "\n", encoding="utf-8")
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            [*pip, "install", *peer.requirements], capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise InstallError(f"pip took more than {timeout_s:.0f} s") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise InstallError(errors[-1] if errors else f"pip ended with status {done.returncode}")
    finished.touch()
    return python


def load(peer: Peer, scratch: Path, rows: Sequence[Labelled]) -> Child:
    """Start a peer in a process of its own. Raises InstallError or ChildError where it cannot be had."""
    log = scratch / f"{peer.name}.log".replace(" ", "_").replace("/", "_")
    options = {"scratch": str(scratch.absolute()), **peer.options}
    return Child(f"benchmarks.peers.{peer.target}", options, rows, log, python_with(peer, scratch / "venvs"))
