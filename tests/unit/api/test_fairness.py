"""Rows by the API and the same rows by file: desk, labelled rows and the report's groups are equal."""

import json
from pathlib import Path
from typing import Any

import pytest

from apis import RoutedTransport, api, row, score
from desks import Work, write_jsonl
from scoremux_desk.exports import export_labelled
from serving import run_here

REGIONS = ("north", "south", "west")


def sent_rows() -> list[dict[str, Any]]:
    """Return rows of 40 students, some of whom wrote to both tasks."""
    return [
        {
            **row(f"r{n}", f"unsure about item {n}", f"t-{1 + n % 2}"),
            "student": f"s-{n % 40}",
            "administration": "2026-fall",
            "keep": {"region": REGIONS[n % 40 % 3]},
        }
        for n in range(90)
    ]


def decide_all(work: Work) -> None:
    while read := work.take("anna"):
        name = work.row(read.row).name
        work.decide("anna", read.token, int(name[1:]) * 7 % 3 % 2)


def labelled(work: Work, path: Path) -> list[dict[str, Any]]:
    export_labelled(work.database, path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    varying = ("decision", "decided_at", "saw")
    return sorted(({k: v for k, v in line.items() if k not in varying} for line in lines), key=lambda r: r["id"])


@pytest.mark.filterwarnings("ignore")
def test_fairness_of_rows_by_the_api_is_that_of_the_same_rows_by_file(tmp_path: Path) -> None:
    rows = sent_rows()
    (tmp_path / "api").mkdir()
    with api(tmp_path / "api", RoutedTransport()) as (client, services):
        scored = score(client, *rows).json()["rows"]
        by_api = Work.open(Path(str(services.database.engine.url.database)), anna="rater")
    decide_all(by_api)
    ours = labelled(by_api, tmp_path / "by_api.jsonl")
    lines = [
        {
            **outcome,
            **{k: r[k] for k in ("text", "student", "administration")},
            **r["keep"],
            "source": "rows",
            "line": n,
        }
        for n, (r, outcome) in enumerate(zip(rows, scored, strict=True), start=1)
    ]
    write_jsonl(tmp_path / "scored.jsonl", lines)
    added = run_here(
        "review", "add", tmp_path / "scored.jsonl", "--database", tmp_path / "file.db", "--column", "keep=region"
    )
    assert added.returncode == 0, added.stderr
    by_file = Work.open(tmp_path / "file.db", anna="rater")
    decide_all(by_file)
    theirs = labelled(by_file, tmp_path / "by_file.jsonl")
    assert ours == theirs and len(ours) == 90
    assert {r["region"] for r in ours} == {*REGIONS} and len({r["student"] for r in ours}) == 40
    sections = [report(tmp_path, name) for name in ("by_api", "by_file")]
    assert sections[0] == sections[1] and sections[0]


def report(folder: Path, truth: str) -> Any:
    given = ("--truth", folder / f"{truth}.jsonl", "--out", folder / f"{truth}.html", "--column", "group=region")
    made = run_here("report", folder / "scored.jsonl", *given)
    assert made.returncode == 0, made.stderr
    with (folder / f"{truth}.json").open() as file:
        return json.load(file)["groups"]
