"""Drills: changed copies of a sample of a job's rows, scored again. No change is a reason for a higher level.

The sample of a task is the rows whose names have the lowest hashes, so that a later run takes the same ones; equal
texts count once. The folder of drills has the names of rows and their levels before and after, and no text.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import os
import random
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from scoremux_cli.batch.job_output import Output
from scoremux_cli.batch.job_run import RunJob, run_job
from scoremux_cli.batch.journal import Job, Journal
from scoremux_cli.batch.parts import part_path, read_table
from scoremux_cli.batch.second_tries import done_parts
from scoremux_cli.batch.slices import Slice
from scoremux_cli.batch.sources import expand
from scoremux_client.contract import Status
from scoremux_files.atomic import replace_file
from scoremux_files.digests import digest_of
from scoremux_files.errors import writing
from scoremux_files.rows.row_layout import RowLayout
from scoremux_files.rows.writers import DRILLS, JOURNAL, beside_parts

_MOST_ROWS = 200
"""Rows of a task's sample."""

_PADDING = (
    "This is an important question with many sides. There are several reasons for this, and each of them matters. "
    "Taken together, all of this shows how much depends on it."
)
_KEYWORDS, _TAKEN = 30, 10
"""How many words set a task's answers apart, and how many of them a copy has."""

_WORD, _SENTENCE_END = re.compile(r"\w{4,}"), re.compile(r"(?<=[.!?…])\s+|\s*\n\s*")


class _Row(NamedTuple):
    """A row of the sample. draw: the hash of its name; version: the task with the version that scored it."""

    draw: int
    id: str
    version: str
    text: str
    question: str
    before: int


def with_questions(job: Job, question: str | None) -> Job:
    """Return a job that keeps the column of questions too."""
    keep = [*(job.layout.keep or ()), *([question] if question else [])]
    return replace(job, layout=replace(job.layout, keep=[*dict.fromkeys(keep)] or None))


def run_drills(console: Console, output: Output, job: Job, question: str | None, run: RunJob) -> None:
    """Score changed copies of the rows of a job that has ended; re-run to resume.

    The copies are in a file beside the output until all are scored. Raises InputError or TransportError as `run_job`.
    """
    lines = _lines(_sample(output, job, question))
    counts = Counter(line["drill"] for line in lines)
    rows = ", ".join(f"{counts[drill]:,} {drill}" if counts[drill] else f"{drill} not run" for drill in DRILLS)
    console.print(f"changed copies: {rows}", soft_wrap=True)
    if not lines:
        return
    folder, data = beside_parts(output.folder, "drills"), "".join(json.dumps(line) + "\n" for line in lines).encode()
    journal, copies = beside_parts(folder, JOURNAL), output.path.with_name(f"_{output.path.name}.drills.jsonl")
    with writing(folder):
        known = journal.read_text("utf-8") if journal.exists() else ""
        if known and not all(word in known for word in (digest_of([data]), str(copies))):
            shutil.rmtree(folder)  # the sample was another one
        replace_file(copies, [data], mode=0o600)
        os.utime(copies, ns=(0, 0))  # so that equal copies are the same source
    layout = RowLayout(part_rows=job.layout.part_rows, keep=["drill", "before"])
    drilled = Job(expand([str(copies)]), layout, mixed_arithmetic=job.mixed_arithmetic)
    try:
        run_job(Console(quiet=True), Output(folder), drilled, run)
    finally:
        copies.unlink(missing_ok=True)
    console.print(f"written to {folder}", soft_wrap=True)


def _sample(output: Output, job: Job, question: str | None) -> dict[str, list[_Row]]:
    found: dict[str, list[_Row]] = {}
    with Journal(output.folder, job) as journal:
        for _, part in done_parts(with_questions(job, question), journal):
            for row in _scored_rows(output.folder, part, question):
                rows = found.setdefault(row.version.partition("@")[0], [])
                rows.append(row)
                if len(rows) > 2 * _MOST_ROWS:
                    rows[:] = heapq.nsmallest(_MOST_ROWS, rows)
    lowest = {task: heapq.nsmallest(_MOST_ROWS, rows) for task, rows in sorted(found.items())}
    return {task: [*{row.text: row for row in rows}.values()] for task, rows in lowest.items()}


def _scored_rows(folder: Path, part: Slice, question: str | None) -> Iterator[_Row]:
    """Yield the rows of a part that have a level."""
    table = read_table(part_path(folder, part.number))
    names = ("line", "id", "task", "status", "level", "version")
    place_of = {line: place for place, line in enumerate(part.lines)}
    asked, of = (part.kept.get(name or "", [None] * len(part)) for name in (question, "administration"))
    for line, row_id, pinned, status, level, version in zip(*(table[n].to_pylist() for n in names), strict=True):
        place, task = place_of.get(line), pinned.partition("@")[0]
        if status == Status.OK.value and place is not None and isinstance(text := part.texts[place], str):
            name = "\0".join([task, row_id, of[place] or ""]).encode("utf-8", "surrogatepass")
            draw = int.from_bytes(hashlib.sha256(name).digest()[:8], "big")
            yield _Row(draw, row_id, f"{task}@{version}" if version else task, text, asked[place] or "", level)


def _lines(sample: dict[str, list[_Row]]) -> list[dict[str, str]]:
    """Return the changed copies of all rows. A row has no copy where a change leaves its text as it is."""
    lines, tasks, words = [], list(sample), _keywords(sample)
    for place, (task, rows) in enumerate(sample.items()):
        own = {row.text for row in rows}
        far = tasks[(place + len(tasks) // 2) % len(tasks)]  # neighbours in the order of ids may be traits of one item
        others = [row.text for row in sample[far] if row.text not in own]
        for row in rows:
            draw = random.Random(row.draw)
            texts = (
                f"{row.text} {_PADDING}",
                f"{row.text} {row.text}",
                f"{row.question} {row.text}" if row.question else "",
                draw.choice(others) if others else "",
                _shuffled(row.text, draw),
                " ".join(draw.sample(words[task], min(_TAKEN, len(words[task])))),
            )
            names = {"id": row.id, "task": row.version, "before": str(row.before)}
            copies = zip(DRILLS, texts, strict=True)
            lines += [{**names, "drill": drill, "text": text} for drill, text in copies if text not in ("", row.text)]
    return lines


def _shuffled(text: str, draw: random.Random) -> str:
    """Return the sentences of a text in another order; empty without two of them."""
    sentences = [sentence for sentence in _SENTENCE_END.split(text) if sentence]
    order = draw.sample(sentences, len(sentences))
    return "" if len(set(sentences)) < 2 else " ".join(order[::-1] if order == sentences else order)


def _keywords(sample: dict[str, list[_Row]]) -> dict[str, list[str]]:
    """Return the words that set each task's answers apart: the share that has a word is most above that elsewhere."""
    words = {task: [set(_WORD.findall(row.text.lower())) for row in rows] for task, rows in sample.items()}
    found = {task: Counter(word for of_row in of_rows for word in of_row) for task, of_rows in words.items()}
    everywhere, total, keywords = Counter[str](), sum(map(len, sample.values())), {}
    for counts in found.values():
        everywhere.update(counts)
    for task, counts in found.items():
        rows = len(sample[task])
        apart = {word: (everywhere[word] - n) / max(1, total - rows) - n / rows for word, n in counts.items()}
        keywords[task] = sorted(counts, key=lambda word: (apart[word], word))[:_KEYWORDS]
    return keywords
