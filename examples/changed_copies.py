"""Changed copies of responses, none of which deserves a higher level, and how many of them gain one.

python examples/changed_copies.py make answers.jsonl copies.jsonl
scoremux score answers.jsonl --out answers-scored.jsonl --url localhost:8001
scoremux score copies.jsonl --out copies-scored.jsonl --url localhost:8001 --keep copy_of --keep change
python examples/changed_copies.py count answers-scored.jsonl copies-scored.jsonl

A copy is padded with sentences that fit any question, written twice, or the answer to another task. Equal texts make
one copy, and 200 responses of a task, drawn by the hash of their ids, make copies. Rows at the highest level can gain
nothing and do not count.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST_ROWS = 200
PADDING = (
    "This is an important question with many sides. There are several reasons for this, and each of them matters. "
    "Taken together, all of this shows how much depends on it."
)


def read(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def digest(row: dict[str, Any]) -> str:
    return hashlib.sha256(f"{row['task']}\0{row['id']}".encode()).hexdigest()


def copies(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    by_task = defaultdict[str, dict[str, dict[str, Any]]](dict)
    for row in sorted(rows, key=digest):
        if len(by_task[row["task"]]) < MOST_ROWS:
            by_task[row["task"]].setdefault(row["text"], row)
    tasks = sorted(by_task)
    for place, task in enumerate(tasks):
        others = [*by_task[tasks[(place + max(1, len(tasks) // 2)) % len(tasks)]]]
        for number, (text, row) in enumerate(by_task[task].items()):
            changed = {"padded": f"{text} {PADDING}", "doubled": f"{text} {text}"}
            if len(tasks) > 1:
                changed["other task"] = others[number % len(others)]
            for change, copy in changed.items():
                names = {"id": f"{row['id']}-{change}", "copy_of": row["id"], "change": change}
                yield {**names, "task": task, "text": copy}


def count(scored: list[dict[str, Any]], copied: list[dict[str, Any]]) -> Iterator[str]:
    before = {(row["task"], str(row["id"])): row for row in scored if row["status"] == "OK"}
    rows, gained = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for copy in copied:
        row = before.get((copy["task"], str(copy["copy_of"])))
        if row and copy["status"] in ("OK", "CONDITION") and row["level"] < len(row["probabilities"]) - 1:
            rows[copy["task"], copy["change"]] += 1
            gained[copy["task"], copy["change"]] += copy["status"] == "OK" and copy["level"] > row["level"]
    for (task, change), of_change in sorted(rows.items()):
        yield f"{task}  {change}: {gained[task, change]} of {of_change} copies gain a level"


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        made = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in copies(read(sys.argv[2])))
        Path(sys.argv[3]).write_text(made, encoding="utf-8")
    elif sys.argv[1:2] == ["count"]:
        print(*count(read(sys.argv[2]), read(sys.argv[3])), sep="\n")
    else:
        sys.exit(__doc__)
