"""The rows that `scoremux tune` measures with: the user's own texts, or made-up ones of usual lengths."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from scoremux_engine.selftest import MADE_UP_WORDS
from scoremux_engine.store.reader import StoreReader
from scoremux_server.errors import SetupError
from scoremux_server.tuning.trials import TrialRows

_MOST_LINES = 100_000
_MOST_ROWS = 4096
# Made-up answers: a median of 17 words, one in twenty above 90, as in corpora of short answers.
_MEDIAN_WORDS, _SPREAD, _MOST_WORDS = 17, 1.0, 400


def read_sample(store: Path, file: Path | None, seed: int = 0) -> TrialRows:
    """Return rows in random order.

    Args:
        store: the store whose live tasks the rows name.
        file: texts, one JSON object a line (`.jsonl`: `text` and, if it likes, `task`) or one text a line; None for
            made-up ones.
        seed: of the random draws.

    Raises:
        SetupError: the store has no task, or the file cannot be read or has no text.
    """
    draw = random.Random(seed)
    tasks = sorted(StoreReader(store).manifest().tasks)
    if not tasks:
        raise SetupError(f"{store} has no task to measure with; publish one with `scoremux tasks add`")
    rows = list(_read(file, tasks)) if file else [(_made_up(draw), "") for _ in range(_MOST_ROWS)]
    draw.shuffle(rows)
    rows = rows[:_MOST_ROWS]
    return TrialRows([text for text, _ in rows], [task or draw.choice(tasks) for _, task in rows])


def _read(file: Path, tasks: list[str]) -> Iterator[tuple[str, str]]:
    known = set(tasks)
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(islice(lines, _MOST_LINES), start=1):
                if file.suffix != ".jsonl":
                    yield line.rstrip("\r\n"), ""
                    continue
                try:
                    row = json.loads(line)
                    text, task = row["text"], row.get("task", "")
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise SetupError(f"{file}, line {number}: not a JSON object with `text`") from error
                yield str(text), task if task in known else ""
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{file} cannot be read: {error}") from error


def _made_up(draw: random.Random) -> str:
    words = min(_MOST_WORDS, max(1, round(_MEDIAN_WORDS * draw.lognormvariate(0, _SPREAD))))
    return " ".join(draw.choices(MADE_UP_WORDS, k=words))
