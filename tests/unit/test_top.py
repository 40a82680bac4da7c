"""`scoremux top` against pages of metrics: what is computed, what is shown of a server that is half there."""

from __future__ import annotations

import http.server
import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console

from http_peers import running
from scoremux_cli.top.reading import Reading
from scoremux_cli.top.scrape import Labels, Scrape, Target, parsed, scrape
from scoremux_cli.top.view import table
from scoremux_client.errors import InputError

TRITON = """# TYPE scoremux_rows_total counter
scoremux_rows_total{{task="a",status="OK"}} {ok}
scoremux_rows_total{{task="unknown",status="UNKNOWN_TASK"}} {bad}
scoremux_tokens_total 750
scoremux_padded_tokens_total 1000
scoremux_stage_seconds_sum{{stage="compute"}} {seconds}
scoremux_stage_seconds_count{{stage="compute"}} {batches}
scoremux_info{{runner="openvino",precision="int8"}} 1
scoremux_bank_versions 4
scoremux_tasks 5
scoremux_bank_bytes 2000000
nv_inference_request_summary_us{{model="scorer",quantile="0.5"}} 1500
nv_inference_request_summary_us{{model="backbone",quantile="0.5"}} 999999
nv_inference_request_summary_us{{model="scorer",quantile="0.99"}} NaN
"""
WATCHER = """scoremux_ready {ready}
scoremux_state{{state="serving"}} {ready}
scoremux_state{{state="healing"}} {healing}
scoremux_canary_age_seconds 0.4
scoremux_restarts_total 1
scoremux_reloads_total 2
"""


@contextmanager
def page(text: str) -> Iterator[str]:
    """Serve a page on 127.0.0.1; yield ``host:port``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"127.0.0.1:{server.server_address[1]}"


def read(triton: str, watcher: str, at: float) -> Scrape:
    with page(triton) as first, page(watcher) as second:
        (found,) = scrape([Target.of(f"{first},{second}")])
    return Scrape(at, found.samples, found.down)


def shown(*readings: Reading) -> dict[str, list[str]]:
    console = Console(width=200, color_system=None, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(table([f"s{i}" for i in range(len(readings))], readings, plain=True))
    lines = console.export_text().splitlines()[1:]
    return {line[:24].strip(): line[24:].split("  ") for line in lines}


@pytest.fixture
def healthy() -> Reading:
    watcher = WATCHER.format(ready=1, healing=0)
    before = read(TRITON.format(ok=1000, bad=10, seconds=5, batches=100), watcher, 100.0)
    return Reading(read(TRITON.format(ok=1400, bad=30, seconds=7, batches=150), watcher, 104.0), before)


def test_rates_are_growth_by_time(healthy: Reading) -> None:
    assert healthy.state == "ready" and not healthy.is_down
    assert healthy.rate("scoremux_rows_total") == 105
    assert healthy.rate("scoremux_rows_total", lambda labels: labels["status"] != "OK") == 5
    assert healthy.mean("scoremux_stage_seconds", stage="compute") == pytest.approx(0.04)
    assert healthy.mean("scoremux_stage_seconds", stage="post") is None
    assert healthy.request_s("0.5") == 0.0015
    assert healthy.request_s("0.99") is None


def test_a_counter_that_began_anew_counts_from_zero(healthy: Reading) -> None:
    again = read(TRITON.format(ok=30, bad=0, seconds=1, batches=3), WATCHER.format(ready=1, healing=0), 106.0)
    assert Reading(again, healthy.now).rate("scoremux_rows_total") == 15


def test_a_server_that_is_healing_or_gone_is_shown_as_that(healthy: Reading) -> None:
    healing = Reading(read("", WATCHER.format(ready=0, healing=1), 1.0))
    (gone,) = scrape([Target.of("127.0.0.1:1,127.0.0.1:2")], timeout_s=1)
    half, late = read(TRITON.format(ok=1, bad=0, seconds=1, batches=1), "", 1.0), Reading(gone, healthy.now)
    assert (healing.state, healing.is_down) == ("not ready (healing)", True)
    assert (late.state, late.is_down, late.rate("scoremux_rows_total")) == ("down", True, None)
    assert Reading(half).state == "up"
    assert Reading(Scrape(1.0, half.samples, {"http://x": "refused"})).state == "watcher down"
    assert set(gone.down) == {"http://127.0.0.1:1/metrics", "http://127.0.0.1:2/metrics"}
    assert Reading(healthy.now, gone).rate("scoremux_rows_total") is None


def test_the_table_has_a_column_a_server(healthy: Reading) -> None:
    cells = shown(healthy, Reading(Scrape(1.0)))
    assert [c.strip() for c in cells["state"] if c.strip()] == ["ready", "down"]
    assert "105.0" in "".join(cells["rows/s"])
    assert "openvino int8" in "".join(cells["computes"])
    assert "4 of 5, 2.0 MB" in "".join(cells["tasks in memory"])
    assert "1.5 ms / -" in "".join(cells["request p50 / p99"])
    assert "40.0 ms" in "".join(cells["compute a batch"])
    assert "2 / 1" in "".join(cells["reloads / restarts"])


@pytest.mark.parametrize("text", ["<html>no metrics", '{"json": 1}', 'x{y="unclosed 1', "\xff\xfe", "a b c d e"])
@pytest.mark.parametrize("before", ["", "scoremux_tokens_total 750\n"])
def test_a_page_that_holds_no_metrics_is_down_with_a_reason(text: str, before: str) -> None:
    with page(before + text) as address:
        (found,) = scrape([Target.of(address)])
    assert Reading(found).is_down
    assert "these are no metrics" in found.down[f"http://{address}/metrics"]


@pytest.mark.parametrize(
    ("damaged", "error"),
    [
        ('x{a="b", ="c"} 1', "IndexError"),
        ("# HELP \xa0 x y", "IndexError"),
        (f"x {'9' * 400}", "OverflowError"),
        (f"x 1 {'9' * 400}", "OverflowError"),
    ],
)
def test_whatever_the_parser_says_of_a_damaged_page_the_others_are_read(damaged: str, error: str) -> None:
    good = WATCHER.format(ready=1, healing=0)
    with page(f"{good}{damaged}\n") as first, page(good) as second:
        found = scrape([Target.of(first), Target.of(second)])
    assert found[0].down == {f"http://{first}/metrics": f"these are no metrics ({error})"}
    assert [Reading(one).state for one in found] == ["down", "ready"]


def test_no_damage_to_a_page_ends_it() -> None:
    good, draw, whole = TRITON.format(ok=1, bad=0, seconds=1, batches=1), random.Random(5), 0
    pieces = ['{"', '"', "}", ", =", "\xa0", "\\", "9" * 400, "", "\n"]
    for _ in range(3000):
        text = list(good)
        for _ in range(draw.randrange(1, 4)):
            place = draw.randrange(len(text))
            text[place : place + draw.randrange(20)] = draw.choice(pieces)
        try:
            samples = parsed("".join(text))
        except ValueError:
            continue
        whole += 1
        found: dict[str, list[tuple[Labels, float]]] = {}
        for name, labels, value in samples:
            found.setdefault(name, []).append((labels, value))
        assert shown(Reading(Scrape(1.0, found), Scrape(0.0, found)))
    assert 0 < whole < 3000


def test_a_server_is_named_by_its_addresses() -> None:
    target = Target.of(" a.example:8002 , https://b.example:9/own/path/ ")
    assert target == Target("a.example:8002", ("http://a.example:8002/metrics", "https://b.example:9/own/path"))
    for bad in ("", " , ", "ftp://x:1"):
        with pytest.raises(InputError):
            Target.of(bad)
