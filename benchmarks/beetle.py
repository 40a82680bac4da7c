"""Writes the Beetle part of SemEval-2013 Task 7 as a corpus for benchmarks: 47 questions about circuits, 3 levels.

python -m benchmarks.beetle semeval-3way.zip OUT, with the file of the repository myrosia/semeval-2013-task7 (CC BY-SA).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree
from zipfile import ZipFile

LEVELS = ("contradictory", "incorrect", "correct")
SPLITS = {"train": "training/3way/beetle", "test": "test/3way/beetle/test-unseen-answers"}


def write_corpus(archive: Path, out: Path) -> None:
    """Write `tasks.json`, `train.jsonl` and `test.jsonl` from the archive; a task is a question."""
    tasks = {}
    out.mkdir(parents=True, exist_ok=True)
    with ZipFile(archive) as files:
        for split, folder in SPLITS.items():
            names = [name for name in sorted(files.namelist()) if str(PurePosixPath(name).parent) == folder]
            with (out / f"{split}.jsonl").open("w", encoding="utf-8") as rows:
                for name in (name for name in names if name.endswith(".xml")):
                    question = ElementTree.fromstring(files.read(name))
                    task = question.attrib["id"].lower().replace("_", "-")
                    answers = [a.text for a in question.iter("referenceAnswer") if a.attrib["category"] == "BEST"]
                    tasks[task] = {
                        "task_id": task,
                        "language": "en",
                        "question": question.findtext("questionText"),
                        "reference_answers": answers[:1],
                        "levels": list(range(len(LEVELS))),
                        "level_names": LEVELS,
                    }
                    for answer in question.iter("studentAnswer"):
                        level = LEVELS.index(answer.attrib["accuracy"])
                        row = {"response_id": answer.attrib["id"], "task_id": task, "text": answer.text, "level": level}
                        rows.write(json.dumps(row) + "\n")
    (out / "tasks.json").write_text(json.dumps([*tasks.values()], indent=1), encoding="utf-8")


if __name__ == "__main__":
    write_corpus(*map(Path, sys.argv[1:]))
