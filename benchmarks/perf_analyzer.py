"""NVIDIA's perf_analyzer: its input, its command, what it exports, and Triton's own counters to check it by."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

TIMEOUT_S = 120.0
COLUMNS_MS = {
    "p50_ms": ("p50 latency",),
    "p99_ms": ("p99 latency",),
    "queue_ms": ("Server Queue",),
    "compute_ms": ("Server Compute Infer",),
    "copies_ms": ("Server Compute Input", "Server Compute Output"),
    "network_ms": ("Network+Server Send/Recv",),
}
"""Name of ours → columns of its CSV, in microseconds, that add up to it."""


def find_program() -> str:
    """Return the path of perf_analyzer. Raises FileNotFoundError saying what brings it."""
    package = find_spec("perf_analyzer")
    # Before 26.11 the package's own command returns 0 whatever happened.
    inside = Path(package.origin).parent / "bin" / "perf_analyzer" if package and package.origin else None
    program = str(inside) if inside and inside.exists() else shutil.which("perf_analyzer")
    if not program:
        raise FileNotFoundError("perf_analyzer is not here: install the extra `bench`")
    return program


def write_input(rows: Sequence[tuple[str, str]], out: Path) -> None:
    """Write rows, (task, text), as perf_analyzer's `--input-data`: one step each, batch dimension left out."""
    steps = [{"TEXT": [text], "TASK": [task]} for task, text in rows]
    out.write_text(json.dumps({"data": steps}, ensure_ascii=False), encoding="utf-8")


def settled_counters(http_url: str) -> Counter[str]:
    """Return what Triton counted for the scorer, once it stands still: a request counts a moment after its answer."""
    counters: Counter[str] | None = None
    while True:
        with urllib.request.urlopen(f"{http_url}/v2/models/scorer/stats", timeout=10) as answer:
            stats = json.load(answer)["model_stats"][0]
        counts, last = stats["inference_stats"], counters
        requests, failed = counts["success"]["count"], counts["fail"]["count"]
        counters = Counter(requests=requests, failed=failed, rows=stats["inference_count"])
        if counters == last:
            return counters
        time.sleep(0.05)


@dataclass(frozen=True)
class Load:
    """One load to try. level: requests in flight (mode `concurrency`), or sent each second (mode `rate`, Poisson).

    batch: rows a request; requests: how many are measured, after `warm_up` others.
    """

    protocol: str
    batch: int
    mode: str
    level: float
    requests: int
    warm_up: int = 4

    def command(self, program: str, url: str, data: Path, out: Path) -> list[str]:
        """Return perf_analyzer's arguments; beside its CSV it writes a JSON. url: ``host:port``."""
        words = [program, "-m", "scorer", "-i", self.protocol, "-u", url, "--async", "--input-data", str(data)]
        words += ["-b", str(self.batch)]
        if self.mode == "concurrency":
            # A thread each: threads that share requests would all send the same rows.
            words += ["--concurrency-range", f"{self.level:g}", "--max-threads", f"{self.level:g}"]
        else:
            # Without an end, a rate below one would be a range up to one.
            words += ["--request-rate-range", f"{self.level:g}:{self.level:g}:1", "--request-distribution", "poisson"]
        words += ["--request-count", str(self.requests), "--warmup-request-count", str(self.warm_up)]
        return [*words, "-f", str(out), "--verbose-csv", "--profile-export-file", str(out.with_suffix(".json"))]

    def measure(self, program: str, ports: tuple[int, int], data: Path, out: Path) -> dict[str, Any]:
        """Run the load against a server that only its canary calls beside; return its figures.

        Args:
            program: the path of perf_analyzer.
            ports: gRPC's and HTTP's, on loopback.
            data: what `write_input` wrote.
            out: file for its CSV.

        Raises:
            RuntimeError: perf_analyzer failed (with its last words), or it and Triton counted differently.
        """
        (grpc, http), started = ports, time.monotonic()
        for left in (out, out.with_suffix(".json")):
            left.unlink(missing_ok=True)
        before = settled_counters(f"http://127.0.0.1:{http}")
        command = self.command(program, f"127.0.0.1:{grpc if self.protocol == 'grpc' else http}", data, out)
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        counted = settled_counters(f"http://127.0.0.1:{http}")
        counted.subtract(before)
        if done.returncode or not out.exists():
            raise RuntimeError(f"perf_analyzer ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
        sent, canaries = self.requests + self.warm_up, 2 + 2 * round(time.monotonic() - started)
        # The canary of `scoremux serve` adds a request a second or so.
        if (
            counted["failed"]
            or not sent <= counted["requests"] <= sent + canaries
            or counted["rows"] < sent * self.batch
        ):
            raise RuntimeError(f"{self}: sent {sent}, Triton counted {counted}")
        return {**read_csv(out), **read_rate(out.with_suffix(".json"), self.batch), "level": self.level}


def read_csv(path: Path) -> dict[str, float]:
    """Return the latencies of the one measurement in a CSV, in ms, and rows a second."""
    with path.open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))
    times = {name: sum(float(row[column]) for column in columns) / 1e3 for name, columns in COLUMNS_MS.items()}
    return {"rows_per_s": float(row["Inferences/Second"]), **times}


def read_rate(path: Path, batch: int) -> dict[str, float]:
    """Return rows a second from every request's own times, which the CSV rounds to whole seconds.

    Its JSON writer stops at a NaN, which a row without a score has: then the file is empty, and so is what is returned.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.strip():
        return {}
    requests = json.loads(text)["experiments"][0]["requests"]
    starts = np.array([request["timestamp"] for request in requests], dtype=np.int64)
    ends = np.array([request["response_timestamps"][-1] for request in requests], dtype=np.int64)
    return {"rows_per_s": float(batch * len(starts) / ((ends.max() - starts.min()) / 1e9))}
