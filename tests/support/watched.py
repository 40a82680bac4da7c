"""Made-up rows of `scoremux watch`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from scoremux_decide.decision import Decision
from scoremux_evidence.rows.table import Rows
from scoremux_evidence.watch.watched_rows import WatchedTask
from scoremux_files.rows.codes import codes_of


def watched_task(
    decision: Decision, day: Any, task: str = "t-1", cluster: Sequence[str | None] = (), **columns: Any
) -> WatchedTask:
    """Return a task whose rows the machine keeps. day: of each row, in order; columns: beside their usual values."""
    rows = len(day)
    usual = dict.fromkeys(("machine", "confidence", "doubt", "error"), np.full(rows, np.nan))
    no = dict.fromkeys(("on_hold", "coded", "late"), np.zeros(rows, bool))
    codes = {
        name: codes_of([value] * rows) for name, value in (("route", "machine"), ("status", "OK"), ("condition", None))
    }
    codes["cluster"] = codes_of(cluster or [None] * rows)
    taken = {name: of.take(np.arange(rows)) for name, of in codes.items()}
    table = Rows.of(day=np.array(day, "U10"), **{**usual, **no, **taken, "kept": np.ones(rows, bool), **columns})
    return WatchedTask(task, "a" * 64, decision, table)
