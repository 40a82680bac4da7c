"""perf_analyzer's files: what goes in, what comes out, the knee."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.perf_analyzer import Counters, Load, Measured
from benchmarks.perf_input import SAMPLE, read_pool, write
from benchmarks.perf_report import Point, knee, read_csv, read_json

# As perf_analyzer 2.60 wrote it for a scorer.
CSV = """\
Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,\
Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency,Avg latency,\
request/response,response wait
4,103.706,5,946,10999,59,25428,701,4,37448,58822,67084,82019,38145,9,38129
1,71.3298,8,385,120,32,12926,367,6,15236,26503,28203,31072,13848,14,13825
"""


def point(level: float, rows_per_s: float, p50_ms: float) -> Point:
    return Point("concurrency", level, rows_per_s, p50_ms, p50_ms, p50_ms)


def test_a_csv_is_read_in_milliseconds_lowest_level_first(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text(CSV)
    first, second = read_csv(tmp_path / "points.csv")
    assert first == Point("concurrency", 1, 71.3298, 15.236, 26.503, 31.072, 0.12, 12.926, pytest.approx(0.399), 0.385)
    assert (second.level, second.queue_ms) == (4, 10.999)


def test_a_rate_is_another_mode(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text(CSV.replace("Concurrency", "Request Rate"))
    assert {point.mode for point in read_csv(tmp_path / "points.csv")} == {"rate"}


@pytest.mark.parametrize(("text", "said"), [("a,b\n1,2\n", "no column 'Request Rate'"), ("", "holds no measurement")])
def test_another_csv_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "points.csv").write_text(text)
    with pytest.raises(ValueError, match=f"points.csv.*{said}"):
        read_csv(tmp_path / "points.csv")


def test_a_profile_export_gives_rates_and_percentiles(tmp_path: Path) -> None:
    requests = [{"timestamp": n * 10**9, "response_timestamps": [n * 10**9 + 2 * 10**8]} for n in range(11)]
    entry = {"experiment": {"mode": "request_rate", "value": 1.0}, "requests": requests}
    (tmp_path / "export.json").write_text(json.dumps({"experiments": [entry]}))
    (got,) = read_json(tmp_path / "export.json", batch=64)
    assert (got.mode, got.level, got.p50_ms, got.p99_ms) == ("rate", 1.0, pytest.approx(200), pytest.approx(200))
    assert got.rows_per_s == pytest.approx(64 * 11 / 10.2)


def test_an_empty_profile_export_says_why(tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text("")
    with pytest.raises(ValueError, match="NaN"):
        read_json(tmp_path / "export.json")


def test_the_knee_is_where_waiting_begins_to_outgrow_work() -> None:
    curve = [point(1, 100, 10), point(2, 190, 10.5), point(4, 360, 11), point(8, 400, 20), point(16, 405, 40)]
    assert knee(curve).level == 4
    assert knee(curve[:1]).level == 1


def test_input_is_one_step_a_row_and_texts_survive(tmp_path: Path) -> None:
    rows = [("en-1", 'He said "ä\\n" \u2028'), ("en-2", "")]
    write(rows, tmp_path / "load.json")
    steps = json.loads((tmp_path / "load.json").read_text(encoding="utf-8"))["data"]
    assert [(step["TASK"], step["TEXT"]) for step in steps] == [([task], [text]) for task, text in rows]


def test_the_sample_is_a_pool_and_another_file_is_refused_by_line(tmp_path: Path) -> None:
    assert len(read_pool(SAMPLE)) > 50
    (tmp_path / "rows.jsonl").write_text('{"task": "t", "text": "x"}\n{"task": "t"}\n')
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 2"):
        read_pool(tmp_path / "rows.jsonl")


def test_a_closed_and_an_open_load_ask_perf_analyzer_for_what_they_say() -> None:
    closed = Load("grpc", 64, "concurrency", 8, 100).command("pa", "h:1", Path("in.json"), Path("out.csv"))
    assert closed[closed.index("--concurrency-range") + 1] == "8"
    assert closed[closed.index("-b") + 1] == "64"
    poisson = Load("http", 1, "rate", 12.5, 100).command("pa", "h:1", Path("in.json"), Path("out.csv"))
    assert poisson[poisson.index("--request-rate-range") + 1] == "12.5:12.5:1"
    assert "poisson" in poisson


def test_a_request_that_somebody_did_not_count_is_missing() -> None:
    one = point(1, 1, 1)
    assert Measured(one, 10, 10, Counters(10, 0, 10, 5)).missing == 0
    assert Measured(one, 10, 9, Counters(10, 0, 10, 5)).missing == 1
    assert Measured(one, 10, 10, Counters(8, 2, 8, 5)).missing == 4
    assert Measured(one, 10, 10, Counters(10, 0, 10, 5)).batch_rows == 2
