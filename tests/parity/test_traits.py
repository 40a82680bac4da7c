"""Items with several traits: one adapter and one head, cut into slices; one pass for all traits of a text."""

import asyncio
import json
import random
import shutil
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from apis import api, row, score
from computed import computed_runners, each_runner
from labelled import Row, labelled, rows_of
from making import WORDS, Once, make_adapter
from mixed_store import Kind, make_store, open_with_peft
from scoremux_batch import in_process, parts, task_order
from scoremux_batch.job import Job
from scoremux_batch.journal import Journal
from scoremux_batch.people import ReadBehind
from scoremux_batch.sources import expand
from scoremux_client import AsyncScoringClient, Response, ScoringClient
from scoremux_client.answer_columns import decode_tasks
from scoremux_client.calls.servers import NO_RETRIES
from scoremux_client.contract import TASKS, Reason, Status
from scoremux_client.errors import InputError, RejectedError, TransportError, UnavailableError
from scoremux_client.rows import Answer, Columns, Scored
from scoremux_client.served_tasks import ServedTask
from scoremux_decide.policy import ScoringPolicy
from scoremux_decide.total import Total
from scoremux_engine import Engine
from scoremux_engine.bank.residents import Version
from scoremux_engine.errors import PackageError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.packages.package_files import DECISION_JSON, TASK_JSON, PackageFiles
from scoremux_engine.runners.runner import Outputs
from scoremux_engine.scoring.micro_batches import MicroBatch
from scoremux_engine.scoring.outcomes import TaskLists, columns
from scoremux_engine.scoring.permission import Grant
from scoremux_engine.scoring.row_plan import RowPlan, RowTexts
from scoremux_engine.store.store import Store
from scoremux_evidence.promise.calibration import calibrate_tasks, publish
from scoremux_files.rows.row_layout import RowLayout
from serving import run_here

TRAITS = {
    "grammar": {"levels": [1, 1.5, 2], "feedback": ["Läs reglerna.", "", "Fine"]},
    "syntax": {"levels": [0, 1], "name": "Syntax"},
    "ideas": {"levels": [1, 2, 3, 4]},
}
NAMES = [f"t-0.{name}" for name in TRAITS]
TOTAL = {"weights": {"grammar": 2, "ideas": 0.1}}
WINDOWS = {"windows": {"tokens": 80, "overlap": 10, "most": 4}}
KINDS = (
    Kind(8, 9, task={"levels": None, "traits": TRAITS, "total": TOTAL, "input": WINDOWS}, outputs=9),
    Kind(4, 3),
)


@pytest.fixture(scope="module")
def repository(once: Once, open_repository: Path) -> Path:
    return once("traits", partial(make_store, open_repository, kinds=KINDS))


@pytest.fixture(scope="module")
def engine(repository: Path) -> Engine:
    return Engine.open(repository)


class EngineTransport:
    """Hands requests to an engine, and lists its tasks, as the scorer does."""

    def __init__(self, engine: Engine, most: int = 999) -> None:
        self._engine, self._lists, self._most = engine, TaskLists(), most
        self.rows: list[int] = []

    def submit(self, inputs: Columns, timeout_s: float | None) -> Answer:  # noqa: ARG002
        texts, tasks = (inputs[name][:, 0].tolist() for name in ("TEXT", "TASK"))
        self.rows.append(len(texts))
        listed = self._lists.columns(self._engine.bank.described(), len(texts), None)
        answer: Answer = Future()
        if len(self.rows) > self._most:
            answer.set_exception(UnavailableError("the server went away"))
            return answer
        answer.set_result({**self._engine.score_columns(texts, tasks), TASKS.name: listed[TASKS.name]})
        return answer

    def sharing(self, headers: Mapping[str, str], **options: bool) -> "EngineTransport":  # noqa: ARG002
        return self

    def close(self) -> None: ...


def essay(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(WORDS, k=words))


def test_each_trait_reads_its_slice_of_pefts_logits(repository: Path, engine: Engine) -> None:
    model = open_with_peft(str(repository / "source"), repository / "adapters" / "t-0", 9)
    tokenizer = transformers.AutoTokenizer.from_pretrained(repository / "source")
    draw = random.Random(1)
    for text in (essay(draw, 5), essay(draw, 70)):
        with torch.inference_mode():
            expected = model(**tokenizer(text, return_tensors="pt")).logits[0].numpy()
        found = engine.logits([text] * 3, NAMES)
        cut = np.split(expected, [3, 5])
        for logits, own, scored in zip(found, cut, engine.score([text] * 3, NAMES), strict=True):
            assert np.abs(logits[: len(own)] - own).max() <= 1e-4 and np.isnan(logits[len(own) :]).all()
            assert scored.level == own.argmax() and len(scored.probabilities) == len(own)


def test_a_text_is_computed_once_for_all_its_traits(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    whole = engine.queue._compute

    def count(part: MicroBatch, request: Any) -> Any:
        computed.append(len(part.rows))
        return whole(part, request)

    monkeypatch.setattr(engine.queue, "_compute", count)
    texts = ["the router", essay(random.Random(2), 200)]
    engine.logits([text for text in texts for _ in NAMES], NAMES * 2)
    assert sum(computed) == 1 + 3  # a short text, and three windows


@pytest.mark.parametrize("name", each_runner())
def test_bits_of_traits_are_the_same_alone_and_in_any_company(repository: Path, name: str) -> None:
    engine, draw = Engine.open(repository, runner=computed_runners()[name]), random.Random(3)
    texts = [essay(draw, words) for words in (2, 60, 120, 260)]
    rows = [(text, task) for text in texts for task in (*NAMES, "t-0.total", "t-1")]
    alone = {row: engine.score([row[0]], [row[1]])[0] for row in rows}
    for _ in range(4):
        mix = draw.choices(rows, k=draw.randint(2, 24))
        assert engine.score(*map(list, zip(*mix, strict=True))) == [alone[row] for row in mix]


def test_an_item_is_no_task_and_a_token_for_it_may_score_its_traits(engine: Engine, repository: Path) -> None:
    found = engine.score(["a", "a", "a"], ["t-0", "t-0.other", "t-1.grammar"])
    assert [row.status for row in found] == [Status.HAS_TRAITS, Status.UNKNOWN_TASK, Status.UNKNOWN_TASK]
    assert engine.bank.tasks == sorted([*NAMES, "t-0.total", "t-1"]) and engine.bank.levels_max == 4
    store = Store(repository / "store")
    assert store.ids(store.manifest()) == [*NAMES, "t-0.total", "t-1"]
    with engine.bank.checkout() as versions:
        version = versions.find("t-0.grammar")
        assert isinstance(version, Version)
        asked = ["t-0.grammar", "t-0.other", "t-1", "t-0", f"t-0.syntax@{version.digest}"]
        allowed = RowTexts(["a"] * 5, asked, lambda task: task == "t-0")
        (plan,) = RowPlan.admit([allowed], versions, engine.backbone)
    forbidden = Status.FORBIDDEN_TASK
    assert plan.status == [Status.OK, forbidden, forbidden, Status.HAS_TRAITS, Status.OK]
    for pattern, listed in (("t-0", sorted([*NAMES, "t-0.total"])), ("t-0.syntax", ["t-0.syntax"]), ("t-1", ["t-1"])):
        listed_in = TaskLists().columns(engine.bank.described(), 1, Grant("somebody", 0, (pattern,)))
        assert [task["id"] for task in json.loads(listed_in[TASKS.name][0, 0])] == listed


def test_clients_score_an_item_by_its_traits(engine: Engine) -> None:
    transport, text = EngineTransport(engine), "the router hands out"
    expected = engine.score([text] * 3, NAMES)
    rows = [Response("t-0", text, "a"), Response("t-1", text, "b"), Response("t-0", text, "c")]
    with ScoringClient(transport) as client:
        whole, plain, again = client.score(rows)
        client.score(rows)
    assert sum(transport.rows) == 2 + 1 + 4 + 5  # the rows, the list, traits and total of the item; then these at once
    assert (whole.status, whole.score, whole.id, again.id) == (Status.HAS_TRAITS, None, "a", "c")
    assert plain.ok and not plain.traits and not plain.total
    assert {name: replace(one, id=None) for name, one in whole.traits.items()} == dict(
        zip(TRAITS, expected, strict=True)
    )
    assert whole.total and whole.total.score == engine.score([text], ["t-0.total"])[0].score
    assert {part.id for part in whole.parts} == {"a"} and {part.id for part in again.parts} == {"c"}
    assert whole.unsure == sorted(TRAITS) and whole.route == Reason.UNCALIBRATED.route

    async def score() -> list[Scored]:
        async with AsyncScoringClient(EngineTransport(engine)) as client:
            return await client.score(rows)

    assert asyncio.run(score())[0] == whole


def test_an_item_is_sent_again_by_a_new_list_once_a_trait_is_unknown(repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository, tmp_path / "repo")
    engine, store = Engine.open(tmp_path / "repo"), Store(tmp_path / "repo" / "store")
    old = store.manifest().tasks["t-0"]
    described = json.loads(store.files(old).read(TASK_JSON))
    described["traits"] = {"tone" if name == "ideas" else name: trait for name, trait in TRAITS.items()}
    files = store.files(old).replace(TASK_JSON, json.dumps({**described, "total": {"sum": ["tone"]}}).encode())
    with ScoringClient(EngineTransport(engine), chunk_rows=3) as client:
        client.score([Response("t-0", "a")])
        [change] = store.publish([files], engine.backbone)
        whole, live = client.score([Response(task, "b") for task in ("t-0", f"t-0@{change.after}")])
        for item in (whole, live):
            assert {part.version for part in item.parts} == {change.after} and item.total and item.total.ok
            assert item.traits.keys() == described["traits"].keys()
        pinned, trait = client.score([Response(task, "b") for task in (f"t-0@{old}", f"t-0.ideas@{old}")])
        assert (pinned.status, pinned.traits, pinned.route) == (Status.HAS_TRAITS, {}, "") and trait.ok
        store.retire(["t-0"])
        [gone] = client.score([Response("t-0", "c")])
    assert (gone.status, gone.traits) == (Status.UNKNOWN_TASK, {})
    sure = replace(trait, route="machine")
    assert whole.with_parts([sure, replace(sure, task="t-0.a", route="")]).route == ""


def test_an_item_whose_traits_no_list_has_gets_a_status_and_its_neighbours_their_scores(engine: Engine) -> None:
    def served() -> list[ServedTask]:
        raise RejectedError("not what the contract allows")

    with ScoringClient(EngineTransport(engine), served=served) as client:
        scored = client.score([Response("t-1", "a"), Response("t-0", "a")])
    assert [one.status for one in scored] == [Status.OK, Status.HAS_TRAITS]


def test_total_of_traits_goes_to_people_with_one_of_them(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    names, draw = ["t-0.grammar", "t-0.ideas", "t-0.total"], np.random.default_rng(1)
    totals = set()
    with engine.bank.checkout() as versions:
        (plan,) = RowPlan.admit([RowTexts(["a"] * 3, names)], versions, engine.backbone)
        for _ in range(50):
            whole = draw.normal(size=9).astype(np.float32)
            logits = np.full((3, 9), np.nan, np.float32)
            logits[0, :3], logits[1, :4], logits[2] = whole[:3], whole[5:], whole
            one, other, total = decode_tasks(names, columns(plan, Outputs(logits)))
            exact = 2 * Fraction(one.score or 0) + Fraction(other.score or 0) / 10
            assert total.score == np.float32(float(exact)) and total.ok and not total.probabilities
            assert one.feedback == ["Läs reglerna.", "", "Fine"][one.level] and not other.feedback + total.feedback
            assert total.route == Reason.UNCALIBRATED.route
            totals.add(total.score)
    assert len(totals) > 9
    monkeypatch.setattr(engine, "_uncalibrated", "machine")
    assert [one.route for one in engine.score(["a"] * 2, names[1:])] == ["machine"] * 2


def test_traits_are_calibrated_together_and_a_response_has_one_route(repository: Path, tmp_path: Path) -> None:
    root, draw = tmp_path / "repo", random.Random(5)
    shutil.copytree(repository, root)
    engine, store = Engine.open(root), Store(root / "store")
    texts = [essay(draw, draw.randint(2, 30)) + f" {n}" for n in range(200)]
    rows = list[Row]()
    for name in NAMES:
        found = engine.score(texts, [name] * len(texts))
        median = np.median([max(one.probabilities) for one in found])
        for n, one in enumerate(found):
            is_wrong = max(one.probabilities) < median and draw.random() < 0.5
            rows.append(labelled(str(n), name, (one.level + is_wrong) % len(one.probabilities), text=texts[n]))
    rules = {"target": {"exact": 0.2, "one_level": "keep"}, "rows": {"own": 100}, "gate": {"verdict": "off"}}
    policy = ScoringPolicy.model_validate(rules)
    calibration = calibrate_tasks(engine, store, policy, rows_of(*rows))
    [change] = publish(engine, store, calibration)
    decision = store.decision(change.after or "")
    assert change.task == "t-0" and decision and decision.traits and {*decision.traits} == {*TRAITS}
    threshold = decision.threshold
    assert threshold and threshold.least and threshold.rows == 200 and len(decision.looks) == 1
    names = [*NAMES, "t-0.total"]
    asked = [text for text in texts for _ in names], names * len(texts)
    found = engine.score(*asked)
    sure = [min(one.confidence or 0 for one in found[first : first + 3]) for first in range(0, len(found), 4)]
    middle = replace(decision, threshold=replace(threshold, least=float(np.median(sure))))
    files = PackageFiles(store.package_folder(change.after or "")).replace(DECISION_JSON, middle.to_json())
    store.publish([files], engine.backbone)
    routes = [one.route for one in engine.score(*asked)]
    expected = ["machine" if one >= np.median(sure) else Reason.LOW_CONFIDENCE.route for one in sure]
    assert routes == [route for route in expected for _ in names] and 0 < expected.count("machine") < len(texts)
    again = calibrate_tasks(engine, store, policy, rows_of(*rows))
    assert {len(one.looks) for one in again.decisions.values()} == {1}
    with pytest.raises(InputError, match="Another trait of their item has no rows"):
        calibrate_tasks(engine, store, policy, rows_of(*(row for row in rows if row["task"] != NAMES[2])))
    for words in (("hold", "t-0.syntax", "--by", "me"), ("show", "t-0.total"), ("release", "t-0.syntax", "--by", "me")):
        done = run_here("tasks", *words, "--store", store.folder)
        assert done.returncode == 0, done.stderr
    assert [line.action for line in store.history.entries("t-0")][-2:] == ["hold", "release"]


def test_calibrate_reads_a_column_of_points_for_each_trait(repository: Path, tmp_path: Path) -> None:
    points = [{name: trait["levels"][n % 2] for name, trait in TRAITS.items()} for n in range(30)]
    rows = [{"id": n, "task": "t-0", "text": f"Essay {n}", **of} for n, of in enumerate(points)]
    (tmp_path / "essays.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "columns.toml").write_text("[traits]\n" + "".join(f"{name} = '{name}'\n" for name in TRAITS))
    (tmp_path / "policy.toml").write_text("[target]\nexact = 0.5\n")
    given = ("--repository", repository, "--policy", tmp_path / "policy.toml", "--dry-run", "--json")
    done = run_here("calibrate", tmp_path / "essays.jsonl", *given)
    assert done.returncode == 0, done.stderr
    assert [(one["task"], one["rows"]) for one in json.loads(done.stdout)["tasks"]] == [(n, 30) for n in sorted(NAMES)]
    assert "grammar, syntax, ideas" in run_here("tasks", "list", "--store", repository / "store").stdout


def test_totals_are_exact_and_follow_a_table() -> None:
    levels = {"a": (0, 0.1, 0.2), "b": (0.0, 0.7), "c": (0.0, 1)}
    plain = Total(weights={"a": 3, "b": 1})
    assert plain.of({"a": 0.1, "b": 0.7}) == 1 and plain.of({"a": 0.1, "b": None}) is None
    assert plain.values(levels, 9) == (0, 0.3, 0.6, 0.7, 1, 1.3)
    table = {0: 100, 0.1: 100, 0.2: 101, 0.7: 101.5, 0.8: 102, 0.9: 103}
    scaled = Total(sum=("a", "b"), table=table)
    assert scaled.of({"a": 0.2, "b": 0.7}) == 103 and scaled.values(levels, 9) == (100, 101, 101.5, 102, 103)
    for rule, sentence in (
        ({"sum": ["d"]}, "no trait 'd'"),
        ({"sum": ["a", "b"], "table": {**table, 0.3: 1}}, "impossible sum 0.3"),
        ({"sum": ["a", "b"], "table": {0: 1}}, "lacks sum 0.1"),
        ({"weights": {"a": 1.5, "b": 0.001, "c": 1}}, "more than 6 different totals"),
    ):
        with pytest.raises(ValueError, match=sentence):
            Total.model_validate(rule).values(levels, 6)


@pytest.mark.parametrize("many_tasks", [1000, 1])
def test_a_job_writes_a_row_for_each_trait_and_resumes(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many_tasks: int
) -> None:
    monkeypatch.setattr(task_order, "_MANY_TASKS", many_tasks)
    draw, source, folder = random.Random(4), tmp_path / "in.jsonl", tmp_path / "out"
    texts = [essay(draw, draw.randint(1, 200)) for _ in range(30)]
    rows = [{"id": f"r{n}", "task": "t-0" if n % 3 else "t-1", "text": text} for n, text in enumerate(texts)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder.mkdir()
    job = Job(expand([str(source)], folder, tmp_path / "alerts"), RowLayout(part_rows=12))
    sent = []
    for most in (3, 12, 17, 999):  # each but the last run ends in the middle of a part
        transport = EngineTransport(engine, most)
        with Journal(folder, job) as journal, ScoringClient(transport, chunk_rows=4, retries=NO_RETRIES) as client:
            with suppress(TransportError):
                in_process.run(folder, job, journal, client, lambda *_: None)
            complete = journal.state.rows
        sent.append(sum(transport.rows))
    tables = [parts.read_table(path) for path in sorted(folder.glob("*.parquet"))]
    rows_of_job = [row for table in tables for row in table.to_pylist()]
    written = [(row["id"], row["task"], row["level"]) for row in rows_of_job]
    asked = [(row, task) for row in rows for task in (sorted(NAMES) if row["task"] == "t-0" else ["t-1"])]
    expected = engine.score([row["text"] for row, _ in asked], [task for _, task in asked])
    assert written == [(row["id"], task, one.level) for (row, task), one in zip(asked, expected, strict=True)]
    totals = dict(zip(texts, engine.score(texts, ["t-0.total"] * 30), strict=True))
    for (sent_row, task), line, one in zip(asked, rows_of_job, expected, strict=True):
        trait = task.partition(".")[2]
        total = totals[sent_row["text"]].score if trait else None
        assert (line["trait"], line["total"], line["feedback"]) == (trait, total, one.feedback)
    all_sent = len(asked) + sum(row["task"] == "t-0" for row in rows)  # each item has a total
    assert complete == len(rows) and sent[-1] < all_sent - 10, sent


def test_the_api_answers_an_item_with_its_traits_and_people_read_each(engine: Engine, tmp_path: Path) -> None:
    with api(tmp_path, EngineTransport(engine)) as (client, _):
        whole, plain = score(client, row("a", task="t-0"), row("b", task="t-1")).json()["rows"]
        states = [client.get(f"/v1/rows/{task}/a").status_code for task in (*NAMES, "t-0.total", "t-0")]
    [expected] = engine.score(["unsure"], ["t-0.ideas"])
    assert (whole["status"], whole["route"], plain["traits"]) == ("HAS_TRAITS", "human:UNCALIBRATED", None)
    assert whole["traits"]["ideas"]["level"] == expected.level and whole["total"] > 0
    assert states == [200, 200, 200, 404, 404]


def test_people_read_all_traits_of_a_response_behind_the_machine_or_no_trait() -> None:
    scored = Scored("e-1.a", 0, 1.0, (), Status.OK, "", 1, False, route="machine")
    behind = ReadBehind(0.3, b"k" * 16)
    picked = [[behind.picks(f"e-1.{t}", str(n), scored, None, t) for t in ("a", "b")] for n in range(300)]
    assert all(one == other for one, other in picked) and 60 <= sum(one for one, _ in picked) <= 120
    assert [one for one, _ in picked] == [behind.picks("e-1", str(n), scored) for n in range(300)]
    planned = ReadBehind({"e-1.a": 0.2, "e-1.b": 0.4, "f": 0.9}, b"k" * 16)
    assert planned.share_of("e-1.a", "a") == planned.share_of("e-1.b", "b") == 0.4 and planned.share_of("f") == 0.9


def item(folder: Path, backbone: Backbone, task: str, described: Any = {}) -> Path:  # noqa: B006
    traits = {"a": {"levels": [0, 1]}, "b": {"levels": [0, 1, 2]}}
    return make_adapter(
        folder, backbone.spec, task, levels=5, task_json={"levels": None, "traits": traits, **described}
    )


@pytest.mark.parametrize(
    ("described", "sentence"),
    [
        ({"levels": [0, 1]}, "give either `levels` or `traits`"),
        ({"traits": {"a": {"levels": [0, 1]}}}, "at least 2 items"),
        ({"traits": {"a.b": {"levels": [0, 1]}, "c": {"levels": [0, 1]}}}, "pattern"),
        ({"traits": {"a": {"levels": [0, 1]}, "b": {"levels": [0]}}}, "at least 2 items"),
        ({"traits": {"a": {"levels": [0, 1]}, "total": {"levels": [0, 1, 2]}}}, "`total` is the name of the total"),
        ({"traits": {"a": {"levels": [0, 1], "feedback": ["x"]}, "b": {"levels": [0, 1]}}}, "1 texts for 2 levels"),
        ({"total": {"sum": ["a", "c"]}}, "total: the item has no trait 'c'"),
        ({"total": {"sum": ["a", "a"]}}, "names a trait twice"),
        ({"levels": [0, 1, 2, 3, 4], "traits": None, "total": {"sum": ["a"]}}, "total: there are no traits"),
        ({"total": {"weights": {"a": 1e39}}}, "total: points must be finite and ascending"),
        ({"total": {"weights": {"a": 1e308, "b": 1e308}}}, "total: "),
        ({"total": {"weights": {"a": 16777216, "b": 1}}}, "total: points must be .* rounded to float32"),
        ({"id": "x" * 127}, r"id: x+\.a has more than 128 characters"),
        ({"id": "x" * 126, "total": {"sum": ["a"]}}, r"id: x+\.total has more than 128"),
        ({"traits": {"a": {"levels": [0, 1]}, "b": {"levels": [0, 1, 2, 3]}}}, r"shape \[5, 32\], expected \[6, 32\]"),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_traits_are_refused(backbone: Backbone, tmp_path: Path, described: Any, sentence: str) -> None:
    with pytest.raises(PackageError, match=sentence):
        TaskPackage.read(item(tmp_path / "t", backbone, "t", described), backbone)


def test_an_id_is_of_one_task_or_one_trait(backbone: Backbone, tmp_path: Path) -> None:
    store, essays = Store(tmp_path / "store"), item(tmp_path / "essay", backbone, "essay")
    clash, other = (make_adapter(tmp_path / n, backbone.spec, n, levels=3) for n in ("essay.a", "essay.c"))
    for folders in ([essays, clash], [clash, essays]):
        with pytest.raises(PackageError, match=r"essay\.a would be both a task and a trait of essay"):
            store.add(folders, backbone)
    store.add([essays, other], backbone)
    with pytest.raises(PackageError, match=r"essay\.a would be both a task and a trait"):
        store.add([clash], backbone)
    store.retire(["essay"])
    store.add([clash], backbone)
    with pytest.raises(PackageError, match=r"essay\.a would be both a task and a trait"):
        store.rollback("essay")
    store.retire(["essay.a"])
    assert store.rollback("essay").after
