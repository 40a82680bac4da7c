"""Proofs that take minutes. `python -m pytest tests/slow` runs them all and writes their figures into RESULTS.md.

`--share 0.01` runs a hundredth of every count, to try a change; such figures are not written.
"""

import json
from pathlib import Path

import pytest

from waiting import Result, Scaled, keep

PAGE = Path(__file__).with_name("RESULTS.md")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--share", type=float, default=1.0, help="share of kills, mixes, rows and requests to run")
    parser.addoption("--resume", help="folder that keeps the finished slices of a long proof")


@pytest.fixture(scope="session")
def scaled(request: pytest.FixtureRequest) -> Scaled:
    """Return so much of a count as `--share` says, at least 1."""
    share: float = request.config.getoption("--share")
    return lambda count: max(1, round(count * share))


@pytest.fixture
def result(request: pytest.FixtureRequest) -> Result:
    """Print what was found and write it into RESULTS.md: `result(what, figure)`."""
    command = f"python -m pytest {request.node.nodeid.partition('[')[0]}"
    whole = request.config.getoption("--share") == 1.0

    def write(what: str, figure: str) -> None:
        print(f"{what}: {figure}")
        if whole:
            keep(PAGE, what, figure, command)

    return write


@pytest.fixture(scope="session")
def saf_tasks(saf_repository: Path) -> list[str]:
    """The ids of the 27 tasks."""
    manifest = json.loads((saf_repository / "store" / "manifest.json").read_text(encoding="utf-8"))
    return sorted(manifest["tasks"])
