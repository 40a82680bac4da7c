"""Readings → a table: a line for each figure, a column for each server."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from scoremux_cli.top.reading import STAGES, Reading

NOTHING = "-"


def table(names: Sequence[str], readings: Sequence[Reading], *, plain: bool = False) -> Table:
    """Return the table; plain: without lines and colours, for files and scripts."""
    made = Table(box=None if plain else box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    made.add_column("")
    for name in names:
        made.add_column(Text(name), justify="right")
    for title, show in _LINES:
        made.add_row(title, *(_cell(show(reading), title, reading, plain) for reading in readings))
    return made


def _cell(text: str | None, title: str, reading: Reading, plain: bool) -> Text:
    style = ""
    if title == "state" and not plain:
        style = "bold red" if reading.is_down else "green"
    return Text(text or NOTHING, style=style)


def _number(value: float | None, digits: int = 0) -> str | None:
    return None if value is None else f"{value:,.{digits}f}"


def _ms(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds * 1e3:,.1f} ms"


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.0%}"


def _pair(first: str | None, second: str | None, between: str = " / ") -> str | None:
    return None if first is None and second is None else f"{first or NOTHING}{between}{second or NOTHING}"


def _what(reading: Reading) -> str | None:
    return _pair(reading.label("scoremux_info", "runner"), reading.label("scoremux_info", "precision"), " ")


def _bank(reading: Reading) -> str | None:
    used = reading.value("scoremux_bank_bytes")
    tasks = _pair(_number(reading.value("scoremux_bank_versions")), _number(reading.value("scoremux_tasks")), " of ")
    return None if tasks is None else f"{tasks}, {(used or 0.0) / 1e6:,.1f} MB"


def _stage(name: str) -> Callable[[Reading], str | None]:
    return lambda reading: _ms(reading.mean("scoremux_stage_seconds", stage=name))


def _canary(reading: Reading) -> str | None:
    age = reading.value("scoremux_canary_age_seconds")
    took = _ms(reading.mean("scoremux_canary_seconds"))
    return None if age is None else f"{age:,.1f} s ago" + (f", {took}" if took else "")


def _repairs(reading: Reading) -> str | None:
    reloads, restarts = (reading.value(f"scoremux_{what}_total") for what in ("reloads", "restarts"))
    return _pair(_number(reloads), _number(restarts))


_LINES: tuple[tuple[str, Callable[[Reading], str | None]], ...] = (
    ("state", lambda r: r.state),
    ("computes", _what),
    ("rows/s", lambda r: _number(r.rate("scoremux_rows_total"), 1)),
    ("rows/s without a score", lambda r: _number(r.rate("scoremux_rows_total", lambda x: x.get("status") != "OK"), 1)),
    ("tokens/s", lambda r: _number(r.rate("scoremux_tokens_total"))),
    ("padding", lambda r: _percent(r.padding)),
    ("request p50 / p99", lambda r: _pair(_ms(r.request_s("0.5")), _ms(r.request_s("0.99")))),
    ("requests waiting", lambda r: _number(r.value("nv_inference_pending_request_count", model="scorer"))),
    ("rows a batch", lambda r: _number(r.mean("scoremux_batch_rows"), 1)),
    ("rows a micro-batch", lambda r: _number(r.mean("scoremux_micro_batch_rows"), 1)),
    ("tasks a micro-batch", lambda r: _number(r.mean("scoremux_micro_batch_groups"), 1)),
    *((f"{stage} a batch", _stage(stage)) for stage in STAGES),
    ("tasks in memory", _bank),
    ("evictions/s", lambda r: _number(r.rate("scoremux_bank_evictions_total"), 1)),
    ("canary", _canary),
    ("reloads / restarts", _repairs),
)
