"""Writes the Beetle part of SemEval-2013 Task 7 as a corpus for benchmarks: 47 questions about circuits, 3 levels.

python -m benchmarks.beetle semeval-3way.zip OUT, with the file of the repository myrosia/semeval-2013-task7 (CC BY-SA).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from zipfile import ZipFile

LEVELS = ("contradictory", "incorrect", "correct")
SPLITS = {"train": "training/3way/beetle", "test": "test/3way/beetle/test-unseen-answers"}


def write_corpus(archive: Path, out: Path) -> None:
    """Write `tasks.json`, `train.jsonl` and `test.jsonl` from the archive; a task is a question."""
    tasks: dict[str, dict[str, Any]] = {}
    out.mkdir(parents=True, exist_ok=True)
    with ZipFile(archive) as files:
        for split, folder in SPLITS.items():
            paths = [path for path in map(PurePosixPath, sorted(files.namelist())) if str(path.parent) == folder]
            questions = [ElementTree.fromstring(files.read(str(path))) for path in paths if path.suffix == ".xml"]
            tasks |= {_id(question): _task(question) for question in questions}
            lines = [json.dumps(row) + "\n" for question in questions for row in _rows(question)]
            (out / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    (out / "tasks.json").write_text(json.dumps([*tasks.values()], indent=1), encoding="utf-8")


def _id(question: Element) -> str:
    return question.attrib["id"].lower().replace("_", "-")


def _task(question: Element) -> dict[str, Any]:
    best = [answer.text for answer in question.iter("referenceAnswer") if answer.attrib["category"] == "BEST"]
    return {
        "task_id": _id(question),
        "language": "en",
        "question": question.findtext("questionText"),
        "reference_answers": best[:1],
        "levels": list(range(len(LEVELS))),
        "level_names": LEVELS,
    }


def _rows(question: Element) -> Iterator[dict[str, Any]]:
    for answer in question.iter("studentAnswer"):
        level = LEVELS.index(answer.attrib["accuracy"])
        yield {"response_id": answer.attrib["id"], "task_id": _id(question), "text": answer.text, "level": level}


if __name__ == "__main__":
    write_corpus(*map(Path, sys.argv[1:]))
