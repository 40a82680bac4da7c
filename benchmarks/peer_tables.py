"""Write peers' and paper's tables in benchmarks/README.md from the newest rows: `python -m benchmarks.peer_tables`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.provenance import ROOT, newest

README = ROOT / "benchmarks" / "README.md"
BASE = "scoremux bfloat16"


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def peers(figures: Sequence[dict[str, Any]]) -> str:
    """Return a row for every peer; one that could not be had says why."""
    rate = figures[0]["rate_rows_per_s"]
    heads = ("", "rows/s", f"ours ({BASE}) is × as fast", f"p50 / p99 ms at {rate:g} rows/s", "RSS MB", "weights MB")
    rows = []
    for row in figures:
        shown = f"{row['peer']} (default)" if row["default"] else row["peer"]
        if "rows_per_s" not in row:
            rows.append([shown, *["–"] * 7, f"not measured: {row.get('refused', 'stopped before')}"])
            continue
        faster = row["ours_times_as_fast"].get(BASE)
        rows.append(
            [
                shown,
                f"{row['rows_per_s']:,.0f}",
                f"{faster:.1f}" if faster else "",
                delay(row),
                *(f"{row[key] / 1e6:,.0f}" if key in row else "" for key in ("rss_bytes", "weights_bytes")),
                f"{row['max_logit_difference']:.1e}",
                f"{row['bits_changed']} of {row['rows_alone']}" if "bits_changed" in row else "",
                row["cannot"],
            ]
        )
    return markdown([*heads, "max abs Δlogit", "rows with other bits alone", "what it cannot do"], rows)


def delay(row: dict[str, Any]) -> str:
    """Return p50 and p99 of one peer, or that it fell behind the load."""
    if "served" not in row:
        return ""
    return f"{row['p50_ms']:.0f} / {row['p99_ms']:.0f}" if row["p50_ms"] is not None else "falls behind"


def paper(figures: dict[str, dict[str, Any]]) -> str:
    """Return a row for every setting."""
    heads = ("", "mean QWK", "pooled QWK", "RSS MB", "weights MB", "ms, task changes every time: median", "p99")
    rows = [
        [
            name,
            *(f"{row[key]:.3f}" for key in ("mean_qwk", "pooled_qwk")),
            *(f"{row[key] / 1e6:,.0f}" for key in ("rss_bytes", "weights_bytes")),
            *(f"{row[key]:.1f}" for key in ("switching_ms", "switching_p99_ms", "mixed_ms")),
            "{median_ms:.2f} ({low_ms:.2f} to {high_ms:.2f})".format(**row["switch"]),
        ]
        for name, row in figures.items()
    ]
    return markdown([*heads, "ms a response, mixed batches of 64", "a switch, ms (95 % interval)"], rows)


def replaced(text: str, name: str, table: str) -> str:
    """Return the page with the table between its two marks. Raises ValueError where a mark is missing."""
    start, end = f"<!-- {name}: python -m benchmarks.peer_tables -->", f"<!-- end of {name} -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{README} lacks the marks of the table {name}")
    return f"{before}{start}\n\n{table}\n\n{end}{after}"


def main() -> None:
    text = README.read_text(encoding="utf-8")
    for row in newest("paper"):
        text = replaced(text, "paper", paper(row["settings"]))
    if rows := newest("peers", "peer"):
        text = replaced(text, "peers", peers(rows))
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
