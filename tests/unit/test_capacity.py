"""Capacity: the arithmetic, and the sources of its figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from making import ROOT
from scoremux_cli.app import build
from scoremux_client import Response
from scoremux_client.testing import FakeTransport
from scoremux_engine.backbone import Backbone
from scoremux_engine.bank.bank import Bank
from scoremux_engine.store.store import Store
from scoremux_server.capacity.measure import OPENVINO_GROWTH_BYTES, scored_in
from scoremux_server.capacity.plan import Demand, Fleet, Rate, Sizes, plan
from scoremux_server.capacity.sources import rate_of, sizes_of
from scoremux_server.errors import SetupError

DEMAND, RATE, FLEET = Demand(3_600_000, 1), Rate(50), Fleet(units=4, headroom=0, spare=0)


@pytest.mark.parametrize(
    ("headroom", "spare", "machines"), [(0, 0, 5), (0, 2, 7), (0.5, 0, 10), (0.5, 1, 11), (0.01, 0, 6)]
)
def test_machines(headroom: float, spare: int, machines: int) -> None:
    made = plan(DEMAND, RATE, Sizes(), Fleet(4, headroom, spare))
    assert made.machines == machines
    assert made.needed_rows_per_s == 1000
    assert made.machine_rows_per_s == 200
    assert made.busy == pytest.approx(1000 / (200 * (machines - spare)))
    assert made.busy <= 1 - headroom


def test_one_machine_is_the_least() -> None:
    assert plan(Demand(1, 24), RATE, Sizes(), FLEET).machines == 1


def test_twice_the_hours_take_half_the_machines() -> None:
    big = replace(DEMAND, responses=3.6e8)
    assert plan(replace(big, hours=2), RATE, Sizes(), FLEET).machines * 2 == plan(big, RATE, Sizes(), FLEET).machines


def test_memory_and_disk() -> None:
    made = plan(Demand(1, 1, tasks=100, versions=3), RATE, Sizes(1000.0, 10.0, 7.0), FLEET)
    assert (made.server_memory_bytes, made.bank_bytes, made.store_bytes) == (2000, 1000, 2100)
    unknown = plan(Demand(1, 1, tasks=100), RATE, Sizes(bank_bytes=10.0), FLEET)
    assert (unknown.server_memory_bytes, unknown.bank_bytes, unknown.store_bytes) == (None, 1000, None)


def test_memory_that_streams_may_still_take_is_planned_for() -> None:
    sizes, demand = Sizes(1000.0, 10.0, growth_bytes=100.0), Demand(1, 1, tasks=5)
    for streams, growth in ((None, 400), (1, 100), (8, 800)):
        made = plan(demand, RATE, replace(sizes, streams=streams), FLEET)
        assert (made.growth_bytes, made.server_memory_bytes, made.bank_bytes) == (growth, 1050 + growth, 50)
    assert plan(demand, RATE, Sizes(1000.0, 10.0), FLEET).growth_bytes == 0


def test_the_reserve_is_the_one_that_the_documentation_names() -> None:
    text = " ".join((ROOT / "server_config" / "README.md").read_text().split())
    assert f"{OPENVINO_GROWTH_BYTES >> 20} MiB a stream" in text


def test_rows_that_are_the_same_are_all_computed() -> None:
    transport = FakeTransport({"t-1": [0, 1]})
    rows = [Response("t-1", f"text {number % 3}") for number in range(300)] + [Response("nobody", "no score")]
    done, seconds = scored_in(transport, rows, 0.05)
    sent = [row for request in transport.requests for row in request]
    assert seconds >= 0.05 and done % 300 == 0 and transport.closed
    assert len(sent) == 256 + done // 300 * len(rows)  # the warm-up first


@pytest.mark.parametrize(
    ("demand", "rate", "fleet", "named"),
    [
        (Demand(0, 1), RATE, FLEET, "--responses is 0"),
        (Demand(1, -1), RATE, FLEET, "--hours is -1"),
        (Demand(float("inf"), 1), RATE, FLEET, "--responses is inf"),
        (Demand(float("nan"), 1), RATE, FLEET, "--responses is nan"),
        (DEMAND, Rate(0), FLEET, "rows/s is 0"),
        (DEMAND, RATE, Fleet(0), "--units is 0"),
        (DEMAND, RATE, Fleet(1, headroom=1), "--headroom is 1"),
    ],
)
def test_numbers_that_make_no_sense_are_named(demand: Demand, rate: Rate, fleet: Fleet, named: str) -> None:
    with pytest.raises(SetupError, match=named):
        plan(demand, rate, Sizes(), fleet)


def results(path: Path, *rates: float) -> Path:
    rows = [
        {"runners": {"a b": {"rows_per_s": rate}}, "cores": 2, "processor": "P", "when": "2026-01-02T03:04:05+00:00"}
        for rate in rates
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_newest_row_of_a_result_file_counts(tmp_path: Path) -> None:
    assert rate_of(results(tmp_path / "r.jsonl", 10, 30), "a b") == Rate(15, "core", "a b, P, 2026-01-02", 2)


def test_a_result_file_without_the_runner_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no runner 'x'; it has a b"):
        rate_of(results(tmp_path / "r.jsonl", 10), "x")
    with pytest.raises(SetupError, match="cannot be read"):
        rate_of(tmp_path / "none.jsonl", "x")
    for other in ('{"rows": 3}\n', "no json\n", "[1]\n", '{"runners": {"x": 3}, "cores": 1}\n'):
        (tmp_path / "other.jsonl").write_text(other)
        with pytest.raises(SetupError, match="is no result file"):
            rate_of(tmp_path / "other.jsonl", "x")


def test_a_task_takes_in_the_bank_what_the_bank_says(small_repository: Path, backbone: Backbone) -> None:
    store = Store(small_repository / "store")
    bank = Bank(store, backbone, beside=False)
    with bank.borrow() as loan:
        for task in store.manifest().tasks:
            assert loan.find(task)
        stats = bank.stats
    sizes = sizes_of(small_repository)
    assert stats.resident == len(store.manifest().tasks)
    assert sizes.bank_bytes == stats.used_bytes / stats.resident
    on_disk = sum(f.stat().st_size for f in (small_repository / "store" / "packages").rglob("*") if f.is_file())
    assert sizes.package_bytes == on_disk / stats.resident


def run(*arguments: str | Path) -> tuple[int, str, BaseException | None]:
    done = CliRunner().invoke(build(), ["plan-capacity", *map(str, arguments)])
    return done.exit_code, done.output, done.exception


def test_the_command_prints_a_table_and_json(small_repository: Path, tmp_path: Path) -> None:
    given = ("--responses", "3.6e6", "--hours", "1", "--units", "4", "--headroom", "0.5", "--tasks", "10")
    _, table, _ = run(*given, "--rows-per-s", "50", "--repository", small_repository)
    assert "3,600,000 responses in 1 h" in table
    assert "│ 11 " in table and "1,000.0" in table and "all tasks in memory" in table
    code, text, _ = run(*given, "--results", results(tmp_path / "r.jsonl", 100), "--runner", "a b", "--json")
    made = json.loads(text)
    assert code == 0
    assert made["plan"]["machines"] == 11
    assert made["rate"]["source"] == "a b, P, 2026-01-02"
    assert made["fleet"] == {"units": 4, "headroom": 0.5, "spare": 1}


def test_machines_are_by_default_as_large_as_the_one_measured(tmp_path: Path) -> None:
    source = results(tmp_path / "r.jsonl", 100)
    _, text, _ = run("--responses", "1", "--hours", "1", "--results", source, "--runner", "a b", "--json")
    assert json.loads(text)["fleet"]["units"] == 2


def test_the_speed_comes_from_one_place(tmp_path: Path) -> None:
    for more in ([], ["--rows-per-s", "1", "--results", str(tmp_path)]):
        *_, error = run("--responses", "1", "--hours", "1", *more)
        assert isinstance(error, SetupError) and "in one way" in str(error)
