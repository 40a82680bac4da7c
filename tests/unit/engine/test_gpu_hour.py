"""The first hour on a GPU, in small and without one: each step's rows are on disk, and steps for a card are skipped."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import gpu_hour
from benchmarks.gpu_hour import STEPS, _run

pytestmark = pytest.mark.nightly


def never_ends(_: Namespace) -> list[dict[str, object]]:
    while True:
        pass


def test_the_first_hour_runs_whole_on_cpu_providers(own_repository: Path, tmp_path: Path) -> None:
    without_triton = {"triton": tmp_path, "load_s": 2.0, "job_rows": 200}
    arguments = Namespace(repository=own_repository, rows=64, rounds=2, mixes=5, **without_triton)
    rows = list(gpu_hour.gpu_hour.run(arguments, tmp_path))
    assert rows == [json.loads(line) for line in (tmp_path / "gpu_hour.jsonl").read_text().splitlines()]
    status = {row["step"]: row["status"] for row in rows}
    assert list(status) == [step.__name__ for step, _, _ in STEPS]
    skipped = {step.__name__ for step, needs_card, _ in STEPS if needs_card}
    assert {name for name, said in status.items() if said == "skipped: needs a card"} == skipped
    assert status.pop("served_by_onnxruntime").startswith("failed: "), "no Triton is there, and the next steps go on"
    assert {said for name, said in status.items() if name not in skipped} == {"ok"}, rows
    assert all(f"| {name} |" in (tmp_path / "gpu_hour.md").read_text() for name in status)
    assert all(row["figure"].endswith(", 0 tables copied") for row in rows if row["step"] == "rates")
    assert all(row["figure"] == "no bit changed" for row in rows if row["step"] == "mixes")


def test_a_step_that_fails_or_does_not_end_is_named(tmp_path: Path) -> None:
    assert str(_run(gpu_hour.mixes, Namespace(repository=tmp_path, mixes=1), 60)).startswith("failed: BackboneError: ")
    assert _run(never_ends, Namespace(), 1) == "failed: it took more than 1 s"
