"""The extra `assess` alone: every command but `calibrate` runs where the engine and what it needs are not installed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

OWN = "scoremux_engine scoremux_server scoremux_export scoremux_train"
OF_EXTRAS = (
    "torch transformers peft onnx onnxruntime openvino tokenizers safetensors pytriton tritonserver psutil "
    "prometheus_client ml_dtypes"
)
RUN = """
import sys
sys.modules.update(dict.fromkeys(sys.argv.pop(1).split()))
sys.argv[0] = "scoremux"
from scoremux.app import main
main()
"""


def scoremux(folder: Path, absent: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command where some modules cannot be imported."""
    command = [sys.executable, "-c", RUN, absent, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write an output, its truth, final scores, and a store of one task version."""

    def write(name: str, rows: list[dict[str, object]]) -> None:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    rows = range(40)
    version = "a" * 64
    text = {n: f"It hands out addresses {n}." for n in rows}
    write("scored.jsonl", [{"id": n, "task": "t", "status": "OK", "level": n % 3, "version": version} for n in rows])
    write("truth.jsonl", [{"id": n, "task": "t", "text": text[n], "level": n % 3} for n in rows])
    final = {"task": "t", "status": "OK", "machine_level": 1, "first_level": None, "route": "machine"}
    final |= {"read_behind": None, "version": version, "decided_by": "machine", "added_at": "2026-12-01"}
    write("final.jsonl", [{"id": n, **final} for n in rows])
    package = tmp_path / "store" / "packages" / version
    package.mkdir(parents=True)
    (package / "trained.json").write_text(json.dumps({"format": 2, "ids": [], "administrations": [], "texts": []}))
    (package / "task.json").write_text(json.dumps({"id": "t", "levels": [0, 1, 2]}))
    (tmp_path / "store" / "manifest.json").write_text(json.dumps({"tasks": {"t": version}}))
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        "evaluate scored.jsonl --truth truth.jsonl --tasks store --out figures.parquet",
        "report scored.jsonl --truth truth.jsonl --tasks store --out report.html",
        "compare scored.jsonl scored.jsonl --truth truth.jsonl --tasks store --out changes.json",
        "sample truth.jsonl --count 5 --out queue.parquet",
        "watch final.jsonl --tasks store --out today.html",
        "dossier t --store store --out dossier",
    ],
)
def test_a_command_of_the_extra_assess_needs_no_engine(folder: Path, words: str) -> None:
    done = scoremux(folder, f"{OWN} {OF_EXTRAS}", *words.split())
    assert done.returncode == 0, done.stderr
    assert (folder / words.rpartition(" ")[2]).stat().st_size


def test_calibrate_without_the_engine_says_what_to_install(folder: Path) -> None:
    done = scoremux(folder, OF_EXTRAS, "calibrate", "truth.jsonl", "--repository", ".", "--policy", "policy.toml")
    assert done.returncode == 2
    assert "pip install" in done.stderr and "Traceback" not in done.stderr
