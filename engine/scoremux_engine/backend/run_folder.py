"""The files of a run of a server, with which a new stub goes on where a dead one stopped."""

import math
from pathlib import Path

from scoremux_engine.backend.models import ARITHMETIC, STOPS_BY
from scoremux_engine.engine import Engine
from scoremux_engine.errors import RunnerError
from scoremux_engine.scoring.in_flight import InFlight
from scoremux_engine.selftest import run_selftest
from scoremux_files.atomic import replace_file

_SELFTEST_S, _SELFTEST_TASKS, _SELFTEST_TOKENS = 1.0, 32, 64


class RunFolder:
    """The folder; path: None for a run that keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def in_flight(self, overlap: int) -> InFlight | None:
        """Return the rows in flight; overlap: most micro-batches that are computed at once."""
        return InFlight(self._path, overlap) if self._path else None

    def write_arithmetic(self, name: str) -> None:
        """Let the watcher know what the scorer computes in."""
        if file := self._file(ARITHMETIC):
            replace_file(file, [name.encode()])

    def stops_by(self) -> float:
        """Return when the server stops (epoch seconds), infinity while it does not."""
        file = self._file(STOPS_BY)
        try:
            return float(file.read_text(encoding="utf-8")) if file else math.inf
        except (OSError, ValueError):  # no stop, or it is being written
            return math.inf

    def test(self, engine: Engine) -> None:
        """Run the self-test unless this run has passed it. Raises RunnerError if a bit changed."""
        passed = self._file("selftest-passed")
        if passed and passed.exists():
            return
        test = run_selftest(
            engine, seconds=_SELFTEST_S, tasks=_SELFTEST_TASKS, loading_s=_SELFTEST_S, longest=_SELFTEST_TOKENS
        )
        if changed := test.changed:
            raise RunnerError(f"bits are not stable on this machine: {changed}; selftest=off serves all the same")
        if passed:
            passed.touch()

    def _file(self, name: str) -> Path | None:
        return self._path / name if self._path else None
