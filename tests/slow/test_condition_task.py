"""The adapter of `examples/conditions` beside the rules, on writers that it has not seen and on two corpora."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

import saf
from making import ROOT
from scoremux_batch.people import ConditionTask
from scoremux_client.contract import Status
from scoremux_client.rows import Scored
from scoremux_decide.conditions.finder import Finder
from scoremux_decide.policy import read_policy
from scoremux_engine import Engine
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.store.store import Store
from scoremux_export.export_graph import export_backbone
from scoremux_export.opening.openable import Opening
from waiting import Result

ADAPTER = ROOT / "examples" / "conditions" / "adapters" / "au"
CASES = ROOT / "tests" / "data" / "conditions"
CONDITION = ConditionTask.parse("au:AU:0.99")
"""As the example's page says."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    if saf.needs_minilm.args[0]:
        pytest.skip(saf.needs_minilm.kwargs["reason"])
    repository = tmp_path_factory.mktemp("conditions")
    export_backbone(str(saf.minilm()), Opening("query,value"), repository)
    Store(repository / "store").add([ADAPTER], Backbone.open(repository / "backbone" / "1"))
    return Engine.open(repository)


def codes(engine: Engine, rows: list[dict[str, Any]]) -> list[str]:
    """Return the codes that rows get from the example policy's rules, or else from the adapter."""
    rules = read_policy(ROOT / "examples" / "policy.toml").conditions
    finders: dict[tuple[str, str, str], Finder] = {}
    found = []
    for row, outcome in zip(rows, engine.score([row["text"] for row in rows], ["au"] * len(rows)), strict=True):
        task = row["question"], row["reference"], row["language"]
        finder = finders.setdefault(task, Finder(rules, *task[:2], [task[2]]))
        ruled = finder.find(row["text"])
        scored = Scored("t", 0, 0.0, (1.0,), Status.OK, "", 1, False, condition=ruled.code if ruled else "")
        found.append(CONDITION.add(scored, outcome).condition)
    return found


def interval(hits: int, count: int) -> str:
    """Return a share with Wilson's interval of 95 %."""
    low, high = binomtest(hits, count).proportion_ci(method="wilson")
    return f"{hits / count:.2f} [{low:.2f}, {high:.2f}]"


def test_writers_that_the_adapter_has_not_seen(engine: Engine, result: Result) -> None:
    first = [row for language in ("en", "de") for row in read_lines(CASES / f"{language}.jsonl")]
    held_out = [row for row in first if row["split"] == "held_out"]
    for writer, rows in (("second", read_lines(CASES / "second_writer.jsonl")), ("first, held-out half", held_out)):
        rows = [row for row in rows if row["code"] in ("", "A", "U")]
        hits, count = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        for row, code in zip(rows, codes(engine, rows), strict=True):
            key = row["code"], row["language"]
            count[key] += 1
            hits[key] += code == row["code"] or bool(row["code"] and code and code in row.get("also", ""))
        for code, language in sorted(count):
            what = f"found of `{code}`" if code else "of the honest answers without a code"
            result(
                f"rules and the adapter of conditions, {writer} writer, {language}: {what}",
                interval(hits[code, language], count[code, language]),
            )
        assert all(hits["", language] >= 0.9 * count["", language] for language in ("de", "en"))


@saf.needs_data
@pytest.mark.parametrize("corpus", ["saf", "scientsbank"])
def test_false_codes_on_corpora(corpus: str, engine: Engine, result: Result) -> None:
    folder = saf.DATA.parent / corpus
    tasks = {task["task_id"]: task for task in json.loads((folder / "tasks.json").read_text(encoding="utf-8"))}
    rows = [
        {
            "text": row["text"],
            "language": tasks[row["task_id"]]["language"],
            "question": tasks[row["task_id"]]["question"],
            "reference": " ".join(tasks[row["task_id"]]["reference_answers"]),
        }
        for split in ("train", "test")
        for row in read_lines(folder / f"{split}.jsonl")
    ]
    found = Counter(codes(engine, rows))
    false = found["A"] + found["U"]
    result(
        f"rules and the adapter of conditions, {len(rows):,} responses of {corpus}: false codes `A` and `U`",
        f"{false} ({false / len(rows):.2%}): {found['A']} and {found['U']}",
    )
    assert false <= 0.003 * len(rows)


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
