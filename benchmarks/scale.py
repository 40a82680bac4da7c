"""What 10, 100 and 1,000 million responses a night take, from measured figures: the tables of benchmarks/scale.md.

Reads the newest rows of `benchmarks/results`; their commands are in the page. `python -m benchmarks report` writes it.
"""

from __future__ import annotations

from typing import Any

from benchmarks.rows import machine, markdown, newest

NIGHT_S = 8 * 3600
HEADROOM = 0.7
"""Servers are planned to be this busy."""
VOLUMES = (10_000_000, 100_000_000, 1_000_000_000)


def figures() -> dict[str, dict[str, Any]]:
    """Return the rows that the tables are computed from, by a name of their own."""
    columns = ("data", "profile", "sites", "rows_of")
    profiles = (row for row in newest("profiles", columns) if row["profile"] == "cpu" and not row.get("sites"))
    rows = {f"{row['data']} {row['profile']}": row for row in profiles}
    for name in ("client", "door"):
        rows |= {f"{name} {row['rows']}": row for row in newest(name, ("servers", "rows"))}
    return rows | {f"job {row['engine']}": row for row in newest("ray", ("engine", "files"))}


def tables() -> list[str]:
    """Return the page's tables: cores for each part and volume, and the figures with where they come from."""
    rows = figures()
    short, long = rows["SCIENTSBANK cpu"], rows["SAF cpu"]
    core_s = {
        "server, short answers": short["cores"] / short["rows_per_s"],
        "server, SAF": long["cores"] / long["rows_per_s"],
        "client, 512 rows a request": 1e-6 * rows["client 512"]["client_us"],
        "client, 1 row a request": 1e-6 * rows["client 1"]["client_us"],
        "front door, 512 rows a request": 1e-6 * rows["door 512"]["door_us"] / 512,
        "front door, 1 row a request": 1e-6 * rows["door 1"]["door_us"],
        **{
            f"`scoremux score`, {engine}, files of 100 rows": job["processor_s"] / job["rows"]
            for engine, job in (("local", rows["job local"]), ("ray", rows["job ray"]))
        },
    }
    parts = [
        [name, f"{1e6 * s:,.1f}", *(f"{count * s / NIGHT_S / HEADROOM:,.1f}" for count in VOLUMES)]
        for name, s in core_s.items()
    ]
    sources = [
        [name, f"{row['rows_per_s']:,.0f} rows/s", str(row.get("load", "")), machine(row), f"`{row['command']}`"]
        for name, row in rows.items()
    ]
    return [
        *markdown(["part", "µs of a core a row", *(f"cores, {n // 1_000_000:,} million" for n in VOLUMES)], parts),
        "",
        *markdown(["figure", "measured", "load", "processor", "command"], sources),
    ]
