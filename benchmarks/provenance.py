"""Result rows: JSONL under benchmarks/results/, each with the setup, versions and processor it came from."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_PACKAGES = (
    "numpy",
    "onnxruntime",
    "torch",
    "transformers",
    "peft",
    "nvidia-pytriton",
    "tokenizers",
    "tritonclient",
    "grpcio",
    "openvino",
    "perf-analyzer",
)


def processor() -> str:
    """Return the processor's name as the kernel gives it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def provenance() -> dict[str, Any]:
    """Return what a reader needs to judge a figure."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit,
        "python": platform.python_version(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions,
    }


def record(name: str, command: str, figures: dict[str, Any]) -> None:
    """Append one row to ``results/<name>.jsonl``."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    row = {"command": command, **figures, **provenance()}
    with (RESULTS / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def newest(name: str, *keys: str, results: Path = RESULTS) -> list[dict[str, Any]]:
    """Return the newest row of a result file, or with `keys` the newest row for each of their values."""
    path = results / f"{name}.jsonl"
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return list({tuple(row.get(key) for key in keys): row for row in rows}.values())


def newest_where(name: str, where: Mapping[str, Any], results: Path = RESULTS) -> dict[str, Any]:
    """Return the newest row that has these values; an empty one where there is none."""
    rows = newest(name, *where, results=results)
    return next((row for row in rows if all(row.get(key) == value for key, value in where.items())), {})
