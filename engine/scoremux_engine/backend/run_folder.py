"""The files of a run of a server, with which a new stub goes on where a dead one stopped."""

import math
from pathlib import Path

from scoremux_engine.backend.models import STOPS_BY
from scoremux_engine.engine import Engine
from scoremux_engine.errors import RunnerError
from scoremux_engine.selftest import run_selftest

_SELFTEST_S, _SELFTEST_TASKS, _SELFTEST_TOKENS = 1.0, 32, 64


def stops_by(folder: Path) -> float:
    """Return when the server stops (epoch seconds), infinity while it does not."""
    try:
        return float((folder / STOPS_BY).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no stop, or it is being written
        return math.inf


def pass_selftest(engine: Engine, folder: Path | None) -> None:
    """Run the self-test unless the run of this folder has passed it. Raises RunnerError if a bit changed."""
    passed = folder / "selftest-passed" if folder else None
    if passed and passed.exists():
        return
    test = run_selftest(
        engine, seconds=_SELFTEST_S, tasks=_SELFTEST_TASKS, loading_s=_SELFTEST_S, longest=_SELFTEST_TOKENS
    )
    if changed := test.changed:
        raise RunnerError(f"bits are not stable on this machine: {changed}; selftest=off serves all the same")
    if passed:
        passed.touch()
