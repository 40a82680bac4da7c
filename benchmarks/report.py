"""Write the latest rows of every case into benchmarks/results.md, and the headline figures into its README.md.

python -m benchmarks report
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import scale
from benchmarks.case import Case
from benchmarks.plot import FOLDER, draw_all
from benchmarks.registry import CASES, case_of
from benchmarks.rows import RESULTS, ROOT, Row, machine, markdown, newest

PROOFS = ROOT / "tests" / "slow" / "RESULTS.md"
START, END = "<!-- figures: python -m benchmarks report -->", "<!-- end of figures -->"


@dataclass(frozen=True)
class Headline:
    """A line of the table of headlines.

    what: as the page says it; case: whose rows; where: the values that pick rows; figure: `str.format` over a row.
    """

    what: str
    case: str
    figure: str
    where: dict[str, Any] = field(default_factory=dict)


PROVEN = (
    "levels unlike PEFT's, 680 SAF test responses through Triton",
    *(
        f"rows of a mixed store with other bits, 2,000 mixes, {runner}"
        for runner in ("onnxruntime float32", "openvino float32", "openvino bfloat16", "openvino int8")
    ),
)
"""The first lines come from the page of the slow tests: their titles."""
PROFILE_FIGURE = "{rows_per_s:,.0f} rows/s, {times_reference:.2f} × profile `cpu-reference`"
HEADLINES = (
    Headline(
        "27 tasks mixed in process, SAF (mean 61 tokens), profile `cpu`",
        "profiles",
        PROFILE_FIGURE,
        {"data": "SAF", "profile": "cpu", "sites": None},
    ),
    Headline(
        "27 tasks mixed in process, short answers (mean 14 tokens), profile `cpu`",
        "profiles",
        PROFILE_FIGURE,
        {"data": "SCIENTSBANK", "profile": "cpu", "sites": None},
    ),
    Headline(
        "ranks 4 to 64 mixed in one store, short answers, profile `cpu`",
        "rank_classes",
        "{share_of_uniform:.2f} of the rows/s of a store of rank 8",
        {"data": "SCIENTSBANK", "profile": "cpu", "code": "this", "ranks": [4, 8, 16, 32, 64]},
    ),
    Headline(
        "from one task to {last[value]:,} in memory",
        "growth",
        "{share:.2f} of the rows/s; spread of the rounds {last[spread]:.2f}",
        {"axis": "tasks"},
    ),
    Headline(
        "client, gRPC and Triton beside the engine in process, short answers, profile `cpu`",
        "served",
        "{share_of_engine:.2f} of its rows/s; a lone row {lone_p50_ms:.1f} ms median, {lone_p99_ms:.1f} ms p99",
        {"data": "SCIENTSBANK", "profile": "cpu"},
    ),
    Headline(
        "as fast as PEFT's mixed batches sorted by length, at their best, short answers",
        "peers",
        "{ours_times_as_fast[float32]:.2f} × in float32, {ours_times_as_fast[bfloat16]:.2f} × in bfloat16, "
        "{ours_times_as_fast[int8]:.2f} × in int8; PEFT: {setting}; {bits_changed} of 16 rows have other bits alone",
        {"data": "SCIENTSBANK", "peer": "PEFT mixed batch, at its best"},
    ),
    Headline(
        "processor time of 1,000 short answers to 27 tasks, adapters on all Linears, each at its cheapest precision",
        "cost",
        "{shown}",
        {"texts": "SCIENTSBANK", "way": "scoremux", "sites": "all Linears", "precision": "float32"},
    ),
)


ELSEWHERE: dict[str, Callable[[Row], bool]] = {
    "rank_classes": lambda row: row["code"] != "this",
    "plans": lambda row: row["capability"] != "8.9",
}
"""Rows that only `results/` has: of other commits and of further compute capabilities."""
COMPARISONS = ("code_commit", "share_of_before")
"""Columns about another commit."""


def latest(case: Case, results: Path = RESULTS) -> list[dict[str, Any]]:
    """Return the newest row of each setting and family of processors, without those that stay in `results/`."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in sorted(newest(case.name, case.keys, results), key=lambda row: str(row["when"])):
        family = re.sub(r", model \d+", "", row["processor"])
        rows[(*(str(row.get(key)) for key in case.keys), family, str(row["cores"]))] = row
    elsewhere = ELSEWHERE.get(case.name)
    shown = [row for row in rows.values() if not (elsewhere and elsewhere(row))]
    return sorted(shown, key=lambda row: str(row.get("data")))


def headlines(results: Path = RESULTS, proofs: Path = PROOFS) -> list[str]:
    """Return the table of headlines; figures of it that were never taken are named on standard error."""
    rows, missing = [], []
    table = [re.split(r"(?<!\\)\|", line.strip("|")) for line in proofs.read_text(encoding="utf-8").splitlines()]
    for title in PROVEN:
        shown = [[cell.strip() for cell in cells[:3]] for cells in table if cells[0].strip() == title]
        rows += shown
        missing += [] if shown else [title]
    for headline in HEADLINES:
        before = len(rows)
        for row in latest(case_of(headline.case), results):
            if all(row.get(key) == value for key, value in headline.where.items()):
                rows.append([headline.what.format_map(row), headline.figure.format_map(row), machine(row)])
        where = ", ".join(f"{key} {value}" for key, value in headline.where.items())
        missing += [] if len(rows) > before else [f"benchmark {headline.case}, {where}"]
    for what in missing:
        print(f"the headlines lack a figure that was never taken: {what}", file=sys.stderr)
    return markdown(["what", "figure", "processor"], rows)


def tables(results: Path = RESULTS) -> list[str]:
    """Return a table for each case with its latest rows; settings that all rows share are named above it."""
    lines: list[str] = []
    for case in CASES:
        rows = latest(case, results)
        if not rows:
            continue
        columns = [(column.key, column.head, [column.shown(row) for row in rows]) for column in case.columns]
        if "data" in case.keys and "data" not in [key for key, *_ in columns]:
            columns.insert(0, ("data", "data", [row["data"] for row in rows]))
        columns = [column for column in columns if column[0] not in COMPARISONS and any(column[2])]
        columns.append(("processor", "processor", [machine(row) for row in rows]))
        same = [key in (*case.keys, "processor") and len(set(cells)) == 1 for key, _, cells in columns]
        shared = [f"{head or key} {cells[0]}" for (key, head, cells), alike in zip(columns, same, strict=True) if alike]
        shown = [column for column, alike in zip(columns, same, strict=True) if not alike]
        commands = list(dict.fromkeys(row["command"] for row in rows))
        lines += ["", f"### {case.what}", "", *(f"    {command}" for command in commands), ""]
        lines += [f"All rows: {'; '.join(shared)}.", ""] if shared else []
        lines += markdown([head for _, head, _ in shown], list(zip(*(cells for *_, cells in shown), strict=True)))
        if (FOLDER / f"{case.name}.svg").exists():
            lines += ["", f"![{case.what}](plots/{case.name}.svg)"]
    return lines[1:]


def fill(page: Path, content: Sequence[str]) -> None:
    """Replace what is between the marks of a page. Raises ValueError where a mark is missing."""
    before, start, rest = page.read_text(encoding="utf-8").partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"{page} lacks {START} or {END}")
    page.write_text("\n".join([before + START, "", *content, "", END]) + after, encoding="utf-8")


def main(_words: list[str]) -> None:
    """Draw the plots and write the figures of three pages."""
    draw_all()
    fill(ROOT / "benchmarks" / "README.md", headlines())
    fill(ROOT / "benchmarks" / "results.md", tables())
    fill(ROOT / "benchmarks" / "scale.md", scale.tables())
