"""The program perf_analyzer: where it is, how it is called, and Triton's own counters to check it by."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import astuple, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from benchmarks.perf_report import Point, read_csv, read_json

TIMEOUT_S = 120.0


def find_program() -> str:
    """Return the path of perf_analyzer. Raises FileNotFoundError saying what brings it."""
    package = find_spec("perf_analyzer")
    if package and package.origin:
        # The package's own command returns 0 whatever happened.
        program = Path(package.origin).parent / "bin" / "perf_analyzer"
        if program.exists():
            return str(program)
    found = shutil.which("perf_analyzer")
    if not found:
        raise FileNotFoundError("perf_analyzer is not here: pip install 'scoremux[bench]'")
    return found


@dataclass(frozen=True)
class Counters:
    """What Triton counted for the model: requests answered and failed, rows, and batches run."""

    requests: int
    failed: int
    rows: int
    batches: int

    @classmethod
    def read(cls, http_url: str, model: str = "scorer") -> Counters:
        """Ask the server now. http_url: ``http://host:port``."""
        with urllib.request.urlopen(f"{http_url}/v2/models/{model}/stats", timeout=10) as answer:
            stats = json.load(answer)["model_stats"][0]
        counts = stats["inference_stats"]
        return cls(
            counts["success"]["count"], counts["fail"]["count"], stats["inference_count"], stats["execution_count"]
        )

    @classmethod
    def settled(cls, http_url: str) -> Counters:
        """Return the counters once they stand still: Triton counts a request a moment after it has answered."""
        seen = cls.read(http_url)
        while True:
            time.sleep(0.05)
            last, seen = seen, cls.read(http_url)
            if seen == last:
                return seen

    def since(self, before: Counters) -> Counters:
        """Return what was counted after `before`."""
        return Counters(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))


@dataclass(frozen=True)
class Load:
    """One load to try. level: requests under way (mode `concurrency`), or sent each second (mode `rate`, Poisson).

    batch: rows a request; requests: how many are measured, after `warm_up` others.
    """

    protocol: str
    batch: int
    mode: str
    level: float
    requests: int
    warm_up: int = 4

    def command(self, program: str, url: str, data: Path, csv: Path) -> list[str]:
        """Return perf_analyzer's arguments; beside its CSV it writes a JSON. url: ``host:port``."""
        made = [program, "-m", "scorer", "-i", self.protocol, "-u", url, "--async", "--input-data", str(data)]
        made += ["-b", str(self.batch)]
        if self.mode == "concurrency":
            # A thread each: threads that share requests would all send the same rows.
            made += ["--concurrency-range", f"{self.level:g}", "--max-threads", f"{self.level:g}"]
        else:
            # Without an end, a rate below one would be a range up to one.
            made += ["--request-rate-range", f"{self.level:g}:{self.level:g}:1", "--request-distribution", "poisson"]
        made += ["--request-count", str(self.requests), "--warmup-request-count", str(self.warm_up)]
        return [*made, "-f", str(csv), "--verbose-csv", "--profile-export-file", str(csv.with_suffix(".json"))]


@dataclass(frozen=True)
class Measured:
    """A point, and who counted how many requests. `batch_rows`: rows that Triton ran together, on average."""

    point: Point
    sent: int
    answered: int
    counted: Counters

    @property
    def missing(self) -> int:
        """Requests or rows that somebody counted and another did not."""
        return abs(self.sent - self.answered) + abs(self.sent - self.counted.requests) + self.counted.failed

    @property
    def batch_rows(self) -> float:
        return self.counted.rows / max(1, self.counted.batches)


def measure(load: Load, program: str, grpc_url: str, http_url: str, data: Path) -> Measured:
    """Run one load against a server that nobody else calls. Raises RuntimeError with perf_analyzer's last words."""
    url = grpc_url if load.protocol == "grpc" else http_url.removeprefix("http://")
    with tempfile.TemporaryDirectory() as scratch:
        csv = Path(scratch) / "points.csv"
        before = Counters.settled(http_url)
        done = subprocess.run(
            load.command(program, url, data, csv), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        counted = Counters.settled(http_url).since(before)
        if done.returncode or not csv.exists():
            raise RuntimeError(f"perf_analyzer ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
        point = read_csv(csv)[0]
        if csv.with_suffix(".json").stat().st_size:
            # The CSV divides by whole seconds; the JSON has every request's own times, but is empty after any NaN.
            point = replace(point, rows_per_s=read_json(csv.with_suffix(".json"), load.batch)[0].rows_per_s)
    answered = re.search(r"Request count: (\d+)", done.stdout)
    sent = load.requests + load.warm_up
    return Measured(point, sent, int(answered[1]) + load.warm_up if answered else 0, counted)
