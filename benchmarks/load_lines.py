"""What the tables say of load, growth and limit, from their newest rows."""

from __future__ import annotations

from benchmarks.provenance import newest

Line = tuple[str, str, str]
"""What, figure, command."""

_PROTOCOLS = {"grpc": "gRPC", "http": "HTTP"}
_MODES = {"concurrency": "closed loop", "rate": "Poisson arrivals"}


def load_lines() -> list[Line]:
    """Return the knees of the load sweeps, and whether all counted the same."""
    made: list[Line] = []
    rows = newest("perf", "protocol", "batch", "mode")
    for row in rows:
        knee = next(point for point in row["points"] if point["level"] == row["knee"])
        load = f"{knee['level']:g} under way" if row["mode"] == "concurrency" else f"{knee['level']:g} requests/s"
        rows_each = "1 row" if row["batch"] == 1 else f"{row['batch']} rows"
        each = f"{rows_each} of {row['tokens_a_row']:.0f} tokens" if "tokens_a_row" in row else rows_each
        what = f"{_MODES[row['mode']]}, {_PROTOCOLS[row['protocol']]}, {each} a request, {row['runner']}: knee"
        figure = (
            f"{knee['rows_per_s']:,.0f} rows/s at {load}; p50 {knee['p50_ms']:.0f} ms, p99 {knee['p99_ms']:.0f} ms; "
            f"queue {knee['queue_ms']:.0f} ms, compute {knee['compute_ms']:.0f} ms"
        )
        made.append((what, figure, row["command"]))
    if rows:
        sent, missing = sum(row["requests"] for row in rows), sum(row["missing"] for row in rows)
        commands = "`, `".join(sorted({row["command"] for row in rows}))
        what = "requests that perf_analyzer and Triton's counters do not agree on"
        made.append((what, f"{missing} of {sent:,}", commands))
    return made


def growth_lines() -> list[Line]:
    """Return slopes and bends."""
    made: list[Line] = []
    for row in newest("growth", "axis", "runner"):
        first, last, grown = row["points"][0], row["points"][-1], row["growth"]
        what = f"{row['unit']}/s over {row['axis']} {first['value']:,} … {last['value']:,}, {row['runner']}"
        figure = f"{first['per_s']:,.0f} … {last['per_s']:,.0f}, power {grown['slope']:.2f}"
        if grown["bend"] is not None and abs(grown["before"] - grown["after"]) > 0.1:
            figure += f" ({grown['before']:.2f} up to {grown['bend']:g}, {grown['after']:.2f} from there)"
        if row["axis"] == "tasks":
            figure += f"; {row['bytes_each'] / 1e3:,.0f} kB a task"
        made.append((what, figure, row["command"]))
    return made


def limit_lines() -> list[Line]:
    """Return shares of the matmul peak."""
    return [
        (
            f"share of the matmul peak of its precision, {row['runner']}",
            f"{row['share_of_peak']['served']:.2f} served, {row['share_of_peak']['closed']:.2f} the backbone alone "
            f"(peak {row['peak_per_s'] / 1e9:,.0f} Gop/s)",
            row["command"],
        )
        for row in newest("limit", "runner")
    ]
