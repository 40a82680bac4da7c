"""Result rows: JSONL under `benchmarks/results`, each with the command, the versions and the processor it came from."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_PACKAGES = (
    "numpy",
    "onnxruntime",
    "openvino",
    "torch",
    "transformers",
    "peft",
    "tokenizers",
    "tritonclient",
    "nvidia-pytriton",
    "grpcio",
    "perf-analyzer",
)
_INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def commit(checkout: Path = ROOT) -> str:
    """Return the commit of a checkout, marked where files have changed since."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False).stdout.strip()


def provenance() -> dict[str, Any]:
    """Return what a reader needs to judge a figure."""
    # Imported here: a child that runs another checkout's engine reads this module too.
    from scoremux_engine.model.provenance import processor_name

    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("flags")[2].partition("\n")[0].split()
    return {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "python": platform.python_version(),
        "processor": processor_name(),
        "instructions": [name for name in _INSTRUCTIONS if name in flags],
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions,
    }


def load() -> float:
    """Return the machine's load average over a minute: how busy it was with other things, too."""
    return round(os.getloadavg()[0], 1)


def record(name: str, row: Row, results: Path = RESULTS) -> None:
    """Append a row to ``results/<name>.jsonl``, with its provenance."""
    results.mkdir(parents=True, exist_ok=True)
    with (results / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({**row, **provenance()}, ensure_ascii=False) + "\n")


def newest(name: str, keys: tuple[str, ...] = (), results: Path = RESULTS) -> list[dict[str, Any]]:
    """Return the newest row for each processor and each combination of the values of `keys`, oldest first."""
    path = results / f"{name}.jsonl"
    if not path.exists():
        return []
    by_setting: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        setting = tuple(json.dumps(row.get(key)) for key in (*keys, "processor", "cores"))
        by_setting.pop(setting, None)
        by_setting[setting] = row
    return list(by_setting.values())


def machine(row: Row) -> str:
    """Return the processor and the cores that a row was taken on."""
    return f"{row['processor']}, {row['cores']} cores"


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table's lines; a `|` in a cell is escaped unless it is already."""
    lines = ([re.sub(r"(?<!\\)\|", r"\|", cell) for cell in line] for line in (heads, ["---"] * len(heads), *rows))
    return [f"| {' | '.join(line)} |" for line in lines]
