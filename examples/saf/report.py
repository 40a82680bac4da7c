"""The acceptance report of the 27 tasks on SAF's test split, with the adapters that `make demo` published.

python examples/saf/report.py --data SAF --out examples/saf/report.html
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from scoremux_client import Scored
from scoremux_engine import Engine
from scoremux_evidence.rows.label_columns import LabelColumns
from scoremux_evidence.show import ReportInputs, write_report

HERE = Path(__file__).parent
REPOSITORY = Path("scoremux-demo/repository")


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as JSON lines; return the file."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def outcome(scored: Scored) -> dict[str, Any]:
    """Return a row as `scoremux score` writes it, without what a report does not read."""
    names = ("id", "task", "level", "probabilities", "version")
    return {"status": scored.status.value, **{name: getattr(scored, name) for name in names}}


def lengths(rows: list[dict[str, Any]]) -> list[str]:
    """Return for each response whether it has more words than the median of its task."""
    words = [len(row["text"].split()) for row in rows]
    tasks: dict[str, list[int]] = {}
    for row, count in zip(rows, words, strict=True):
        tasks.setdefault(row["task_id"], []).append(count)
    middle = {task: median(counts) for task, counts in tasks.items()}
    return ["long" if n > middle[row["task_id"]] else "short" for row, n in zip(rows, words, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the report of the example adapters on SAF's test split.")
    parser.add_argument("--data", type=Path, required=True, help="folder with test.jsonl")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="what `make demo` made")
    parser.add_argument("--out", type=Path, default=HERE / "report.html")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in (arguments.data / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        engine = Engine.open(arguments.repository)
        scored = engine.score([row["text"] for row in rows], [row["task_id"] for row in rows])
        ids = [row["response_id"] for row in rows]
        output = [{**outcome(one), "id": id_} for one, id_ in zip(scored, ids, strict=True)]
        known = zip(rows, lengths(rows), strict=True)
        truth = [
            {"id": r["response_id"], "task": r["task_id"], "level": r["level"], "text": r["text"], "length": n}
            for r, n in known
        ]
        inputs = ReportInputs(
            write_rows(work / "scored.jsonl", output),
            write_rows(work / "saf-test.jsonl", truth),
            LabelColumns(groups=("length",)),
            tasks=arguments.repository / "store",
        )
        write_report(inputs, arguments.out, title="27 example tasks on SAF's test split")


if __name__ == "__main__":
    main()
