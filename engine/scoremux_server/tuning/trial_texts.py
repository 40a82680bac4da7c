"""The rows that `scoremux tune` measures with: the user's own texts, or made-up ones of usual lengths."""

from __future__ import annotations

import random
from collections.abc import Container, Iterator
from itertools import islice
from pathlib import Path

from scoremux_engine.selftest import MADE_UP_WORDS
from scoremux_engine.store.reader import StoreReader
from scoremux_files.rows.readers import read_rows, text_cell
from scoremux_server.errors import SetupError
from scoremux_server.tuning.trials import TrialRows

_MOST_LINES = 100_000
_MOST_ROWS = 4096
# Made-up answers: a median of 17 words, one in twenty above 90, as in corpora of short answers.
_MEDIAN_WORDS, _SPREAD, _MOST_WORDS = 17, 1.0, 400


def read_sample(store: Path, file: Path | None) -> TrialRows:
    """Return rows in random order: a file's (.jsonl, .csv or .parquet, with `text` and maybe `task`), or made-up ones.

    Raises ScoremuxError where the store has no task, or the file cannot be read or has no text.
    """
    draw = random.Random(0)
    tasks = sorted(StoreReader(store).manifest().tasks)
    if not tasks:
        raise SetupError(f"{store} has no task to measure with; publish one with `scoremux tasks add`")
    rows = (
        list(islice(_read(file, set(tasks)), _MOST_LINES))
        if file
        else [(_made_up(draw), "") for _ in range(_MOST_ROWS)]
    )
    draw.shuffle(rows)
    rows = rows[:_MOST_ROWS]
    return TrialRows([text for text, _ in rows], [task or draw.choice(tasks) for _, task in rows])


def _read(file: Path, tasks: Container[str]) -> Iterator[tuple[str, str]]:
    for number, row in enumerate(read_rows(file), start=1):
        task = str(row.get("task"))
        yield text_cell(file, number, row, "text"), task if task in tasks else ""


def _made_up(draw: random.Random) -> str:
    words = min(_MOST_WORDS, max(1, round(_MEDIAN_WORDS * draw.lognormvariate(0, _SPREAD))))
    return " ".join(draw.choices(MADE_UP_WORDS, k=words))
