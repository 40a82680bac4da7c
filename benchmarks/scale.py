"""What 10, 100 and 1,000 million responses a night take, from measured figures: the tables of benchmarks/scale.md.

    python -m benchmarks.scale

Reads the newest rows of `benchmarks/results`; their commands are in the page. Nothing is measured here.
"""

from __future__ import annotations

from typing import Any

from benchmarks.report import fill, machine, markdown
from benchmarks.rows import ROOT, newest

PAGE = ROOT / "benchmarks" / "scale.md"
NIGHT_S = 8 * 3600
HEADROOM = 0.7
"""Servers are planned to be this busy."""
VOLUMES = (10_000_000, 100_000_000, 1_000_000_000)
Figures = dict[str, dict[str, Any]]


def figures() -> Figures:
    """Return the rows that the tables are computed from, by a name of their own."""
    found: Figures = {}
    for row in newest("profiles", ("data", "profile")):
        found[f"{row['data']} {row['profile']}"] = row
    for name in ("client", "door"):
        for row in newest(name, ("servers", "rows")):
            found[f"{name} {row['rows']}"] = row
    for row in newest("ray", ("engine", "files")):
        found[f"job {row['engine']}"] = row
    return found


def core_s(found: Figures) -> dict[str, float]:
    """Return the processor seconds of a row in each part, by part."""
    short, long = found["SCIENTSBANK cpu"], found["SAF cpu"]
    jobs = {engine: found[f"job {engine}"] for engine in ("local", "ray")}
    return {
        "server, short answers": short["cores"] / short["rows_per_s"],
        "server, SAF": long["cores"] / long["rows_per_s"],
        "client, 512 rows a request": 1e-6 * found["client 512"]["client_us"],
        "client, 1 row a request": 1e-6 * found["client 1"]["client_us"],
        "front door, 512 rows a request": 1e-6 * found["door 512"]["door_us"] / 512,
        "front door, 1 row a request": 1e-6 * found["door 1"]["door_us"],
        **{f"`scoremux score`, {e}, files of 100 rows": row["processor_s"] / row["rows"] for e, row in jobs.items()},
    }


def tables(found: Figures) -> list[str]:
    """Return the page's tables: cores for each part and volume, and the figures with where they come from."""

    def cores(seconds: float, rows: int) -> str:
        return f"{rows * seconds / NIGHT_S / HEADROOM:,.1f}"

    heads = ["part", "µs of a core a row", *(f"cores, {rows // 1_000_000:,} million" for rows in VOLUMES)]
    parts = [
        [name, f"{1e6 * seconds:,.1f}", *(cores(seconds, rows) for rows in VOLUMES)]
        for name, seconds in core_s(found).items()
    ]
    sources = []
    for name, row in found.items():
        rate = f"{row['rows_per_s']:,.0f} rows/s"
        sources.append([name, rate, str(row.get("load", "")), machine(row), f"`{row['command']}`"])
    return [
        *markdown(heads, parts),
        "",
        *markdown(["figure", "measured", "load", "processor", "command"], sources),
    ]


def main() -> None:
    fill(PAGE, tables(figures()))


if __name__ == "__main__":
    main()
