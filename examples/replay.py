"""Score the rows of an audit log again, and say which of them differ.

python examples/replay.py audit.log responses.csv … --url localhost:8001 [--key-file KEY] [--id NAME] [--text NAME]

A running server scores each row again with the version that the log names. The status, the level, the probabilities
(bit for bit), the confidence and the condition must be those of the log. The route is not compared: holds and the
server's profile change it. Canaries, and rows whose status is neither OK nor CONDITION, are left out. The
first line is named that does not follow the one before: somebody changed or removed lines.

Rows that cannot be asked are counted by reason: another arithmetic, a version that the store no longer has, an erased
digest, a text that no file has. The exit status is 0 if all rows are equal, and otherwise 1. An access token comes from
$SCOREMUX_TOKEN.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scoremux import Client, Response, Scored, ScoremuxError
from scoremux_client.audit_lines import CANARY_TEXT, read_log, text_digest
from scoremux_files.digests import read_key
from scoremux_files.errors import InputError
from scoremux_files.rows.readers import chunks, read_rows

ROWS = 4096
ERASED = "0" * 64
NOT_WHOLE = "after lines that were changed or removed"


def decided_lines(log: Path, canary: str, counts: Counter[str]) -> Iterator[dict[str, Any]]:
    for line in read_log(log):
        if line.values.get("format") != 1:
            raise InputError(f"{line.place}: this is not a line of an audit log in format 1")
        if line.fault:
            if not counts[NOT_WHOLE]:
                print(f"{line.place}: {line.fault}")
            counts[NOT_WHOLE] += 1
        if line.values["status"] in ("OK", "CONDITION") and line.values["digest"] != canary:
            yield line.values


def comparable(status: str, level: int | None, probabilities: Any, confidence: float | None, condition: str) -> Any:
    known = np.array([*(probabilities or ()), -1 if confidence is None else confidence], np.float32)
    return status, -1 if level is None else level, known.tobytes(), condition


def difference(line: dict[str, Any], scored: Scored) -> str:
    """Why a row could not be asked, or "differs"; empty if it is equal."""
    if not scored.version:
        return f"not scored now: {scored.status}"  # UNKNOWN_TASK: the version was collected
    if scored.arithmetic not in ("", line.get("arithmetic")):
        return f"computed in {scored.arithmetic} now, in {line.get('arithmetic', 'an unknown arithmetic')} then"
    logged = comparable(*(line[name] for name in ("status", "level", "probabilities", "confidence", "condition")))
    now = comparable(scored.status.value, scored.level, scored.probabilities, scored.confidence, scored.condition)
    return "" if logged == now else "differs"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("responses", type=Path, nargs="+")
    parser.add_argument("--url", required=True)
    parser.add_argument("--key-file", type=Path, help="key of the log's digests (audit_key_file)")
    parser.add_argument("--id", default="id", help="column of ids")
    parser.add_argument("--text", default="text", help="column of texts")
    given = parser.parse_args()
    key = read_key(given.key_file) if given.key_file else None
    texts = dict[str, tuple[str, str]]()
    for file in given.responses:
        for row in read_rows(file, given.id, given.text):
            texts[text_digest(row[given.text].encode(), key)] = (str(row.get(given.id, "")), row[given.text])
    counts = Counter[str]()
    with Client(given.url, token=os.environ.get("SCOREMUX_TOKEN")) as client:
        for lines in chunks(decided_lines(given.log, text_digest(CANARY_TEXT.encode(), key), counts), ROWS):
            asked = [line for line in lines if line["digest"] in texts]
            erased = sum(line["digest"].endswith(ERASED) for line in lines)
            counts["digest erased"] += erased
            counts["text not given"] += len(lines) - len(asked) - erased
            pinned = [f"{line['task'].partition('@')[0]}@{line['version']}" for line in asked]
            responses = [Response(task, texts[line["digest"]][1]) for task, line in zip(pinned, asked, strict=True)]
            for line, scored in zip(asked, client.score(responses), strict=True):
                found = difference(line, scored)
                counts[found or "equal"] += 1
                if found == "differs":
                    name, now = texts[line["digest"]][0], (scored.status.value, scored.level, scored.condition)
                    logged = tuple(line[column] for column in ("status", "level", "condition"))
                    print(f"{name}  {scored.task}  {line['time']}  logged {logged}, now {now}")
    print(*(f"{count:,} rows: {found}" for found, count in counts.items() if count), sep="\n")
    return int(set(+counts) != {"equal"})


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ScoremuxError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
