"""Compare ratios of the newest result rows with committed baselines; seconds are never compared.

    python -m benchmarks.guard            # exit status 1, and the names, where one is worse than its tolerance allows
    python -m benchmarks.guard --update   # take the newest rows as the baselines

`benchmarks/baselines.json` says where each ratio lies in the rows; a new one is a new entry there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.provenance import RESULTS, ROOT, newest_where

BASELINES = ROOT / "benchmarks" / "baselines.json"


@dataclass(frozen=True)
class Baseline:
    """One ratio.

    rows: the result file; where: values that its row has; at: keys to the figure, with `over` a second path to divide
    by. higher_is_better: which way is worse; tolerance: the relative change in that direction that is let pass.
    """

    name: str
    rows: str
    at: tuple[str, ...]
    value: float
    tolerance: float
    where: Mapping[str, Any]
    over: tuple[str, ...] = ()
    higher_is_better: bool = True

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> Baseline:
        """Return the baseline of one entry of the file."""
        return cls(**{**entry, "at": tuple(entry["at"]), "over": tuple(entry.get("over", ()))})

    def now(self, results: Path) -> float | None:
        """Return the ratio in the newest row; None where there is no such row or figure."""
        row = newest_where(self.rows, self.where, results)
        found = _at(row, self.at)
        divisor = _at(row, self.over) if self.over else 1.0
        return None if found is None or not divisor else found / divisor

    def is_kept(self, now: float | None) -> bool:
        """Whether `now` is no worse than the tolerance allows."""
        if now is None:
            return False
        if self.higher_is_better:
            return now >= self.value * (1 - self.tolerance)
        return now <= self.value * (1 + self.tolerance)


def _at(row: Any, path: tuple[str, ...]) -> float | None:
    for key in path:
        if isinstance(row, list):
            # A list of points: the key names a field and its value, `value=2187`.
            field, _, value = key.partition("=")
            row = next((entry for entry in row if str(entry.get(field)) == value), None)
        else:
            row = row.get(key) if isinstance(row, dict) else None
    return float(row) if isinstance(row, (int, float)) else None


def read(path: Path = BASELINES) -> list[Baseline]:
    """Return the committed baselines."""
    return [Baseline.parse(entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baselines", type=Path, default=BASELINES)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--update", action="store_true", help="write the newest ratios into the baselines")
    args = parser.parse_args()
    baselines = read(args.baselines)
    found = {baseline.name: baseline.now(args.results) for baseline in baselines}
    if args.update:
        newer = [replace(b, value=b.value if (now := found[b.name]) is None else round(now, 4)) for b in baselines]
        args.baselines.write_text(json.dumps([asdict(b) for b in newer], indent=1) + "\n", encoding="utf-8")
    table = Table("ratio", "baseline", "newest", "tolerance", "")
    worse = []
    for b in read(args.baselines):
        now = found[b.name]
        if not b.is_kept(now):
            worse.append(b.name)
        shown = "no row" if now is None else f"{now:.3f}"
        table.add_row(b.name, f"{b.value:.3f}", shown, f"{b.tolerance:.0%}", "" if b.is_kept(now) else "worse")
    Console().print(table)
    if worse:
        sys.exit(f"worse than the baseline: {', '.join(worse)}")


if __name__ == "__main__":
    main()
