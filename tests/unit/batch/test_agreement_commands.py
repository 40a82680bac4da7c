"""`scoremux evaluate`, `compare` and `report`: what they print and write."""

import csv
import json
import re
import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest

from labelled import labelled, rows_of
from scoremux_client.errors import InputError
from scoremux_evidence.commands.agreement_commands import compare, evaluate, report
from scoremux_evidence.figures.estimates import Estimates, mean_of
from scoremux_evidence.rows.label_columns import label_columns
from scoremux_evidence.rows.matching import match_files
from scoremux_evidence.rows.trained_rows import TrainedRows
from scoremux_evidence.show import ReportInputs, write_report
from scoremux_evidence.show.words import shown
from scoremux_evidence.verdicts.totals import CHOSEN_ROWS

Row = dict[str, Any]
SECRET = "my grandmother is the router"


def write(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """An output of three tasks, another of the same rows, and the truth; t-1 is good, t-2 bad, t-3 has six rows."""
    chance = np.random.default_rng(4)
    old, new, truth = [], [], []
    for task, rows, wrong in (("t-1", 900, 0.06), ("t-2", 200, 0.7), ("t-3", 6, 0.3)):
        for n in range(rows):
            human = int(chance.integers(3))
            level = human if chance.random() > wrong else int(chance.integers(3))
            sure = [0.1, 0.1, 0.1]
            sure[level] = 0.8
            row = {"id": f"{task}-{n}", "task": task, "status": "OK", "level": level, "text": SECRET}
            old.append({**row, "probabilities": sure, "version": "ab" * 32})
            if task == "t-2":
                old[-1] |= {"level_low": 0, "level_high": 1}
            moved = min(2, level + 1) if task == "t-2" and n % 4 == 0 else level
            new.append({**old[-1], "level": moved})
            again = human if n % 9 else (human + 1) % 3
            truth.append({"id": row["id"], "level": human, "again": again, "l1": "de" if n % 2 else "<fr>"})
    old.append({"id": "x & y", "task": "t-1", "status": "INVALID_TEXT", "level": -1})
    old_file, new_file = write(tmp_path / "old.jsonl", old), write(tmp_path / "new.jsonl", new)
    return old_file, new_file, write(tmp_path / "truth.jsonl", truth)


def cells(text: str, first: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(first))


def test_evaluate_prints_intervals_and_a_verdict_by_task(
    files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("COLUMNS", "80"), ("FORCE_COLOR", "1"), ("NO_COLOR", "1"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    evaluate(files[0], files[2], column=["second=again", "group=l1"])
    text = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)
    assert re.match(r"t-1 +✓ PASS +900 +\.9\d \[\.9\d, \.9\d\] +\.9\d \[\.9\d, \.9\d\]", cells(text, "t-1"))
    assert re.match(r"t-2 +✗ FAIL ", cells(text, "t-2"))
    assert re.match(r"t-3 +… NOT ENOUGH ROWS +6 +– +–", cells(text, "t-3"))
    assert re.match(r"all rows +1,106 ", cells(text, "all rows"))
    assert re.match(r"l1: de +553 ", cells(text, "l1: de"))
    assert "1 rows have no score: INVALID_TEXT: x & y" in text
    assert cells(text, "t-2 fails: QWK ≥ 0.70, ")
    assert max(len(line) for line in text.splitlines() if not re.search(" fails: |not known", line)) <= 80
    assert "left out at this width: " in text


def test_evaluate_writes_every_figure(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    for name in ("e.csv", "e.json", "e.parquet"):
        evaluate(files[0], files[2], column=["second=again", "group=l1"], out=tmp_path / name)
    with (tmp_path / "e.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {(row["task"], row["group"], row["statistic"]): row for row in rows}
    qwk = found["t-1", "", "qwk"]
    assert float(qwk["low"]) < float(qwk["value"]) < float(qwk["high"])
    assert (qwk["n"], qwk["verdict"]) == ("900", "PASS")
    assert found["t-3", "", "qwk"]["verdict"] == "NOT ENOUGH ROWS"
    assert found["t-1", "de", "dsm"]["verdict"] in ("PASS", "NOT ENOUGH ROWS")
    counts = len(json.loads((tmp_path / "e.json").read_text())), pq.read_table(tmp_path / "e.parquet").num_rows
    assert counts == (len(rows), len(rows))


def test_columns_have_other_names(
    files: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in files[2].read_text().splitlines()]
    renamed = [{"key": r["id"], "grade": r["level"], "item": r["id"].rpartition("-")[0]} for r in rows]
    truth = write(tmp_path / "renamed.jsonl", renamed)
    columns = ["id=key", "level=grade", "task=item"]
    evaluate(files[0], files[2])
    expected = capsys.readouterr().out
    evaluate(files[0], truth, column=columns)
    assert capsys.readouterr().out == expected
    compare(files[0], files[1], truth, column=columns)
    report(files[0], truth, tmp_path / "r.html", column=columns)
    with pytest.raises(InputError, match=r"renamed\.jsonl has no column level \(its columns: key, grade, item\)"):
        evaluate(files[0], truth, column=["id=key"])


def test_other_criteria(files: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.toml").write_text('[[criterion]]\nstatistic = "exact"\nat_least = 0.99\nsource = "ours"\n')
    evaluate(files[0], files[2], criteria=tmp_path / "c.toml")
    assert "FAIL" in cells(capsys.readouterr().out, "t-1")


@pytest.fixture
def desk(tmp_path: Path) -> tuple[Path, Path]:
    """An output with routes, and a desk's labelled file that holds a fifth of the machine's rows."""
    chance = np.random.default_rng(7)
    scored, labelled = [], []
    for n in range(3000):
        kept, human = chance.random() < 0.6, int(chance.integers(3))
        level = (human + 1) % 3 if chance.random() < (0.04 if kept else 0.5) else human
        row = {"id": n, "task": f"t-{n % 2}", "status": "OK", "level": level, "confidence": 0.9 if kept else 0.4}
        scored.append({**row, "route": "machine" if kept else "human:low_confidence", "probabilities": [0.2, 0.3, 0.5]})
        if not kept or chance.random() < 0.2:
            chosen = {"chosen_by": "read_behind", "probability": 0.2} if kept else {"chosen_by": "route"}
            second = (human + (chance.random() < 0.1)) % 3 if n % 3 else None
            text = "x" * (10 + 5 * level + int(chance.integers(9)))
            row = {"id": n, "level": human, "second": second, "sex": "f" if n % 5 else "m", "text": text, **chosen}
            labelled.append({key: None if value is None else value for key, value in row.items()})
    labelled.append({"id": 3000, "level": -1, "status": "CONDITION"})
    truth = [{key: int(v) if isinstance(v, np.integer) else v for key, v in row.items()} for row in labelled]
    return write(tmp_path / "o.jsonl", scored), write(tmp_path / "l.jsonl", truth)


def test_scores_of_all_machine_and_record_differ(
    desk: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"column": ["second", "group=sex"]}
    evaluate(desk[0], desk[1], out=tmp_path / "e.json", **names)
    text = capsys.readouterr().out
    rows = json.loads((tmp_path / "e.json").read_text())
    cell = {(row["task"], row["group"], row["statistic"]): row for row in rows}
    value = {name: cell["all rows", "", name]["value"] for name in ("people", "exact", "kept_exact", "record_exact")}
    # The truth of all 3,000 rows: 0.4; 0.6 · 0.96 + 0.4 · 0.5; 0.96; 0.6 · 0.96 + 0.4 · 0.9.
    assert value == pytest.approx({"people": 0.4, "exact": 0.776, "kept_exact": 0.96, "record_exact": 0.936}, abs=0.03)
    assert cell["all rows", "", "length_gap"]["value"] > 0.1
    for name in ("people", "kept_exact", "record_exact", "gap_exact", "gap_qwk"):
        assert cell["t-1", "f", name]["low"] < cell["t-1", "f", name]["value"] < cell["t-1", "f", name]["high"]
        assert cell["mean of tasks", "f", name]["n"] == 2
    assert re.search(r"Task +Rows +To people +All: exact .* Machine's: exact .* Record: exact ", text)
    report(desk[0], desk[1], tmp_path / "r.html", **names)
    page_text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert all(words in page_text for words in ("The scores that count", "Approved by", "Holm"))
    made = json.loads((tmp_path / "r.json").read_text())
    # A threshold chosen on these rows would be a look at the promise that nothing counts: `calibrate` alone looks.
    assert "threshold" not in page_text and made["all"]["routing"].keys() == {"machine", "wrong"}
    low, high = (made["all"][f"right_among_most_confident_{end}"][11] for end in ("low", "high"))
    assert low < made["all"]["right_among_most_confident"][11] < high


def test_page_hides_few_rows_and_has_no_qwk_of_several_tasks(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    report(files[0], files[2], tmp_path / "r.html", column=["second=again"])
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    whole = re.search(r'<tr><th scope="row">all rows</th>.*', page)
    assert whole is not None and re.search(r"<td>1,106</td><td></td><td>0\.\d", whole[0])
    few = re.search(r'<a href="#task-3">t-3</a>.*', page)
    assert few is not None and few[0].count("fewer than 10 rows") >= 3
    assert "human and length" not in page and "disattenuated" not in page
    one_of_two = np.array([[0.9, np.nan], [0.5, np.nan], [1.0, np.nan], [6, 0]])
    mean = mean_of(Estimates(*one_of_two, "share"))
    assert shown(mean, 0).text == "–", "the mean of a single task, whose rows may be few"
    lines = files[0].read_text(encoding="utf-8").splitlines(keepends=True)
    alone = write(tmp_path / "one.jsonl", [json.loads(line) for line in lines if '"t-1"' in line])
    report(alone, files[2], tmp_path / "one.html", column=["group=l1"])
    assert 'scope="row">mean of tasks' not in (tmp_path / "one.html").read_text(encoding="utf-8")


def test_rows_that_have_no_score_by_their_status_are_no_levels(desk: tuple[Path, Path]) -> None:
    row = {"id": 3000, "task": "t-1", "status": "OK", "level": 0, "route": "machine", "confidence": 0.9}
    with desk[0].open("a") as file:
        file.write(json.dumps(row) + "\n")
    matched = match_files(*desk)
    assert {*matched.rows.human.tolist()} == {0, 1, 2}
    assert {*np.rint(matched.rows.weight).tolist()} == {1, 5}


def test_trained_rows_are_left_out(
    files: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The output of t-1 is of a version that was trained on 300 of its rows; of t-2 nothing is known."""
    scored = [json.loads(line) for line in files[0].read_text().splitlines()]
    versions = {"t-1": "a" * 64, "t-2": "b" * 64}
    write(files[0], [row | {"version": versions.get(row["task"], "")} for row in scored])
    trained = [labelled(row["id"], "t-1", 0) for row in scored if row["task"] == "t-1"]
    for version in versions.values():
        (tmp_path / "store" / "packages" / version).mkdir(parents=True)
    package = tmp_path / "store" / "packages" / versions["t-1"]
    (package / "trained.json").write_text(TrainedRows.of(rows_of(*trained[:300])).to_json())
    evaluate(files[0], files[2], tasks=tmp_path / "store")
    text = capsys.readouterr().out
    assert re.match(r"t-1 .* 600 ", cells(text, "t-1"))
    assert "300 rows were trained on by the adapter that scored them" in text
    assert "It is not known whether the adapters of t-2, t-3 were trained on these rows" in text, (
        "rows of t-3 have no version"
    )
    report(files[0], files[2], tmp_path / "r.html", tasks=tmp_path / "store")
    assert json.loads((tmp_path / "r.json").read_text())["rows"] == 806
    compare(files[1], files[0], files[2], tasks=tmp_path / "store")
    assert "Δ: on the 806 rows with a known level" in re.sub(r"\s+", " ", capsys.readouterr().out)
    evaluate(files[0], files[2])
    assert "the adapters of t-1, t-2, t-3 were trained" in capsys.readouterr().out
    (package / "trained.json").write_text(TrainedRows.of(rows_of(*trained)).to_json())
    alone = write(tmp_path / "one.jsonl", [row | {"version": "a" * 64} for row in scored if row["task"] == "t-1"])
    copies = [labelled(f"c-{n}", "t-1", 0, text=f"Text {n}.") for n in range(40)]
    (package / "trained.json").write_text(TrainedRows.of(rows_of(*copies)).to_json())
    rows = [json.loads(line) | {"text": f"TEXT {n % 40}"} for n, line in enumerate(files[2].read_text().splitlines())]
    with pytest.raises(InputError, match=r"900 of 1,106 rows have a text that the adapter was trained on"):
        evaluate(
            files[0],
            write(tmp_path / "copied.jsonl", [r | {"task": r["id"][:3]} for r in rows]),
            tasks=tmp_path / "store",
        )
    (package / "trained.json").write_text(TrainedRows.of(rows_of(*trained)).to_json())
    with pytest.raises(InputError, match=r"no row .* were trained on by the adapter .* predictions\.parquet of"):
        evaluate(alone, files[2], tasks=tmp_path / "store")


def test_a_column_with_too_many_groups_is_refused(files: tuple[Path, Path, Path]) -> None:
    with pytest.raises(InputError, match=r"the column id has 1,106 values; groups are 64 at most"):
        evaluate(files[0], files[2], column=["group=id"])


def test_compare_says_what_moved(
    files: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, truth = files
    compare(old, new, truth, column=["group=l1"], out=tmp_path / "c.json")
    text, found = capsys.readouterr().out, json.loads((tmp_path / "c.json").read_text())
    cell = {one["name"]: one for one in found["cells"]}
    moved = found["rows_by_levels_moved"]["1"]
    assert 20 <= moved <= 50
    assert cell["t-2"]["up"]["value"] == cell["t-2"]["moved"]["value"] == moved / 200
    assert cell["t-1"]["moved"]["value"] == cell["t-2"]["far"]["value"] == cell["t-2"]["down"]["value"] == 0
    assert cell["t-1"]["moved"]["high"] < 0.01
    assert cell["l1: de"]["moved"]["value"] == 0
    for name in ("exact", "qwk", "r"):
        change = cell["t-2"]["change"][name]
        assert change["value"] == pytest.approx(cell["t-2"]["new"][name]["value"] - cell["t-2"]["old"][name]["value"])
        assert change["low"] < change["value"] < change["high"]
    assert f"rows by the levels that they moved: +1: {moved}" in text
    assert "1 rows have no score in OLD: x & y" in text


def test_compare_without_a_truth_and_with_other_rows(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    compare(files[0], files[1], out=tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text())["cells"][0]["change"] == {}
    other = write(tmp_path / "other.jsonl", [{"id": "z", "task": "t-1", "status": "OK", "level": 1}])
    with pytest.raises(InputError, match="have no scored row in common"):
        compare(files[0], other)
    with pytest.raises(InputError, match="give --truth as well"):
        compare(files[0], files[1], column=["group=l1"])


@pytest.fixture
def page(files: tuple[Path, Path, Path], tmp_path: Path) -> tuple[str, ElementTree.Element]:
    """A page, and its tree: tags are closed in order."""
    inputs = ReportInputs(files[0], files[2], label_columns(["second=again", "group=l1"], "second", group="group"))
    write_report(inputs, tmp_path / "r.html", "Three <tasks>")
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    xml = re.sub(r"<(meta|br)([^>]*)>", r"<\1\2/>", html).replace("&nbsp;", " ").replace(" open>", ">")
    return html, ElementTree.fromstring(xml)


def test_the_page_is_well_formed_and_needs_nothing_else(page: tuple[str, ElementTree.Element]) -> None:
    html, tree = page
    ids = [element.attrib["id"] for element in tree.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    for element in tree.iter():
        assert not {"src", "srcset", "onclick", "background"} & set(element.attrib)
        assert element.get("href", f"#{ids[0]}") in {f"#{name}" for name in ids}
        assert all(name in ids for name in element.get("aria-labelledby", "").split())
    assert not {"script", "link", "img", "iframe", "object"} & {element.tag for element in tree.iter()}
    assert "http" not in html.replace("http-equiv", "")
    assert html.count("<h1>") == 1
    assert SECRET not in html


def test_page_has_verdicts_figures_reasons_and_digests(page: tuple[str, ElementTree.Element], tmp_path: Path) -> None:
    html, tree = page
    text = "".join(tree.itertext())
    summary = "3 tasks: 1 passed, 1 failed, 1 without enough rows for a verdict."
    assert all(words in text for words in (summary, "l1: <fr>", "have no score: INVALID_TEXT", "x & y", "ab" * 32))
    assert "Three &lt;tasks&gt;" in html and "<fr>" not in html
    made = json.loads((tmp_path / "r.json").read_text())
    assert [task["verdict"] for task in made["tasks"]] == ["PASS", "FAIL", "NOT ENOUGH ROWS"]
    ranges = [task["ranges"] for task in made["tasks"]]
    assert (ranges[0]["rows"], ranges[0]["held"], ranges[1]["rows"], ranges[1]["width"]) == (0, None, 200, 2)
    assert ranges[1]["held"] == made["all"]["ranges"]["held"] == pytest.approx(2 / 3, abs=0.1)
    assert "The range of levels holds the human's in 6" in text
    assert dict(made["inputs"])["truth"]["digest"] in text
    assert pq.read_table(tmp_path / "r.parquet").num_rows > 60
    plots = [element.attrib for element in tree.iter("svg")]
    assert len(plots) == 2 + 3  # confidence, each task's risk
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in plots)


def test_totals_are_of_students_with_a_row_in_each_task(tmp_path: Path) -> None:
    """A student has both tasks; the machine is one level too high in the second, which the policy leaves to people."""
    scored, truth = [], []
    for student in range(41):
        for task in ("t-1", "t-2")[: 1 if student == 40 else 2]:
            name, level, route = (
                f"{task}-{student}",
                student % 3,
                "human:LOW_CONFIDENCE" if task == "t-2" else "machine",
            )
            given = level + (task == "t-2")
            row = {"id": name, "task": task, "status": "OK", "level": given, "score": given / 2, "route": route}
            scored.append({**row, "probabilities": [0.25] * 4})
            second = (level + (student % 4 == 0)) % 3
            truth.append({"id": name, "level": level, "who": f"s{student}", "second": second})
    paths = [write(tmp_path / f"{name}.jsonl", rows) for name, rows in (("o", scored), ("t", truth))]

    def totals_of(*columns: str) -> dict[str, Any]:
        report(*paths, tmp_path / "r.html", column=["student=who", *columns])
        totals: dict[str, Any] = json.loads((tmp_path / "r.json").read_text())["totals"]
        return totals

    totals = totals_of()
    assert (totals["students"], totals["cuts"]) == (40, [0, 1, 2])
    assert totals["machine"]["mean"] - totals["people"]["mean"] == pytest.approx(0.5)
    assert totals["machine"]["r"]["value"] == pytest.approx(1) and "as routed" not in totals
    assert totals["people"]["passing"] == pytest.approx([1, 26 / 40, 13 / 40])
    assert totals["machine"]["same"] == [1, 1, 1]
    # As routed has the first person's levels: as another person has, and no more.
    totals = totals_of("second=second")
    assert totals["as routed"]["qwk"]["value"] == totals["the same people"]["qwk"]["value"] < 1
    assert "the same people" in (tmp_path / "r.html").read_text()
    # Students whose rows were chosen are those of whose every answer the machine was unsure.
    write(paths[1], [{**row, "chosen_by": "read_behind", "probability": 0.5} for row in truth])
    assert totals_of() == {"why": CHOSEN_ROWS}
    assert CHOSEN_ROWS in (tmp_path / "r.html").read_text()


def test_totals_have_one_scale_where_the_machine_never_shows_the_points_of_a_level(tmp_path: Path) -> None:
    scored, truth = [], []
    for n in range(80):
        row = {"id": n, "task": f"t-{n % 2}", "status": "OK", "level": min(n // 2 % 4, 2)}
        scored.append({**row, "score": [0, 0.5, 2][row["level"]], "probabilities": [0.25] * 4})
        truth.append({"id": n, "level": n // 2 % 4, "student": f"s{n // 2}"})
    paths = (write(tmp_path / f"{name}.jsonl", rows) for name, rows in (("o", scored), ("t", truth)))
    report(*paths, tmp_path / "r.html", column=["student=student"])
    totals = json.loads((tmp_path / "r.json").read_text())["totals"]
    assert (totals["people"]["mean"], totals["machine"]["mean"]) == (3, 2.5), "levels of both"


@pytest.mark.parametrize("given", [[0, 1, 1, 3], [0, 1, 1, 1]])
def test_totals_by_people_are_the_sums_of_the_points_that_they_gave(tmp_path: Path, given: list[int]) -> None:
    scale: list[float] = [0, 2, 4, 6]
    scored, truth = [], []
    for n in range(80):
        row = {"id": n, "task": f"t-{n % 2}", "status": "OK", "level": given[n // 2 % 4], "probabilities": [0.25] * 4}
        scored.append({**row, "score": scale[given[n // 2 % 4]]})
        truth.append({"id": n, "points": scale[n // 2 % 4], "student": f"s{n // 2}"})
    paths = [write(tmp_path / f"{name}.jsonl", rows) for name, rows in (("o", scored), ("t", truth))]
    report(*paths, tmp_path / "r.html", column=["student=student", "score=points"])
    totals = json.loads((tmp_path / "r.json").read_text())["totals"]
    assert totals["people"]["mean"] == sum(row["points"] for row in truth) / 40
    assert totals["machine"]["mean"] == sum(row["score"] for row in scored) / 40
    # A person's −1, which is no level, leaves the others in points.
    more = [write(paths[0], [*scored, {**scored[0], "id": 80}]), write(paths[1], [*truth, {"id": 80, "level": -1}])]
    report(*more, tmp_path / "r.html", column=["student=student", "score=points"])
    assert json.loads((tmp_path / "r.json").read_text())["totals"] == totals
    # Two versions of a task with other points: nothing says what a level is worth, so levels count.
    scored[:2] = [row | {"score": 7} for row in scored[:2]]
    levels = [{**row, "points": None, "level": scale.index(row["points"])} for row in truth]
    report(write(paths[0], scored), write(paths[1], levels), tmp_path / "r.html", column=["student=student"])
    assert json.loads((tmp_path / "r.json").read_text())["totals"]["people"]["mean"] == 3


def test_a_report_needs_no_probabilities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scored = [{"id": n, "task": "t-1", "status": "OK", "level": n % 3} for n in range(30)]
    truth = write(tmp_path / "t.jsonl", [{"id": n, "level": n % 3} for n in range(30)])
    report(write(tmp_path / "o.jsonl", scored), truth, tmp_path / "r.html")
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "neither confidence nor probabilities" in html
    assert "Nothing: every row" in html
    with pytest.raises(InputError, match=r"r\.pdf"):
        report(tmp_path / "o.jsonl", truth, tmp_path / "r.pdf")
    capsys.readouterr()
    with pytest.raises(InputError, match=r"figures are written to \.csv, \.json and \.parquet files"):
        evaluate(tmp_path / "o.jsonl", truth, out=tmp_path / "figures.txt")
    assert not capsys.readouterr().out, "refused before anything is printed"


def test_people_of_one_level_and_columns_without_groups_have_no_figures(tmp_path: Path) -> None:
    scored = [{"id": n, "task": f"t-{n % 2}", "status": "OK", "level": n % 3} for n in range(200)]
    truth = write(tmp_path / "t.jsonl", [{"id": n, "level": 1, "g": "ab"[n % 5 < 2], "h": None} for n in range(200)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in "gh":
            report(write(tmp_path / "o.jsonl", scored), truth, tmp_path / "r.html", column=[f"group={name}"])
            assert "nan" not in re.findall(r"\w+", (tmp_path / "r.html").read_text(encoding="utf-8"))
            assert bool(json.loads((tmp_path / "r.json").read_text())["groups"]) == (name == "g")


def test_a_report_of_too_few_rows_says_so_first(tmp_path: Path) -> None:
    scored = [{"id": n, "task": f"t-{n % 9}", "status": "OK", "level": n // 9 % 3} for n in range(54)]
    truth = write(tmp_path / "t.jsonl", [{"id": n, "level": n // 9 % 3} for n in range(54)])
    inputs = ReportInputs(write(tmp_path / "o.jsonl", scored), truth)
    write_report(inputs, tmp_path / "r.html")
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    before, _, after = html.partition("<table")
    assert "This sample is too small for a verdict about any task." in before
    assert "<details>" in before
    assert "not enough rows" not in before.lower().partition("<body>")[2]
    assert html.count("<details") == html.count("</details>") and "t-8" in after


def test_few_students_are_hidden_and_no_qwk_is_pooled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """t-1 has 900 rows in the output and t-2 100; people read 50 of each, with the same ids."""
    scored, truth = [], []
    for task, size, right in (("t-1", 900, 0.9), ("t-2", 100, 0.5)):
        for n in range(size):
            human = n % 3
            level = human if n % 10 < right * 10 else (human + 1) % 3
            scored.append({"id": n, "task": task, "status": "OK", "level": level, "probabilities": [0.2, 0.3, 0.5]})
            if n < 50:
                student = f"s{n % 7}" if n < 35 else f"o{n}"
                group = "few" if n < 35 else "others"
                known = {"id": n, "task": task, "level": human, "who": student, "school": group}
                truth.append({**known, "again": human if n % 5 else (human + 1) % 3})
    paths = [write(tmp_path / f"{name}.jsonl", rows) for name, rows in (("o", scored), ("t", truth))]
    names = ["student=who", "group=school", "second=again"]
    for kind in ("csv", "json", "parquet"):
        evaluate(*paths, column=names, out=tmp_path / f"e.{kind}")
    with (tmp_path / "e.csv").open(newline="") as file:
        written = [{**row, "value": float(row["value"] or "nan")} for row in csv.DictReader(file)]
    for rows in (
        written,
        json.loads((tmp_path / "e.json").read_text()),
        pq.read_table(tmp_path / "e.parquet").to_pylist(),
    ):
        found = {(row["task"], row["group"], row["statistic"]): row["value"] for row in rows}
        assert found["all rows", "", "exact"] == pytest.approx(0.9 * 0.9 + 0.1 * 0.5)
        assert found["t-1", "others", "degradation_qwk"] != 0
        few = [value for (_, group, _), value in found.items() if group == "few"]
        assert few and all(value is None or value != value for value in few)
        gaps = [found[task, "others", gap] for task in ("t-1", "all rows") for gap in ("gap_exact", "gap_qwk")]
        assert all(value is None or value != value for value in gaps), "the few's figure follows from a gap"
    text = capsys.readouterr().out
    assert re.match(r"school: few +< 10 +– +– ", cells(text, "school: few")), "7 students"
    report(*paths, tmp_path / "r.html", column=names)
    page = (tmp_path / "r.html").read_text()
    few = re.findall(r'<th scope="row">school: few</th>(.*?)</tr>', page)
    assert len(few) == 4 and not re.search(
        r"\d", re.sub(r"&lt; 10|fewer than 10 students|\(\d+ rows\)", "", "".join(few))
    )
    of_groups = [group for group in json.loads((tmp_path / "r.json").read_text())["groups"] if group["group"] == "few"]
    assert {figure["value"] for group in of_groups for figure in group["statistics"].values()} == {None}
    assert "fewer than 10 students" in page and re.search(r"✗ FAIL</span> <small>fails: QWK ≥ 0\.70", page)
    assert "Totals need 10 students with one row in each task, and 10 of 14 have it" not in page
    pasted = page.partition("A table for a technical report")[2]
    assert re.search(r't-1</th><td>50</td>.*<td>0\.90</td>.*t-2</th>.*<td class="left">0: 34% / ', pasted)
    compare(paths[0], paths[0], paths[1], column=names, out=tmp_path / "c.json")
    by_name = {cell["name"]: cell for cell in json.loads((tmp_path / "c.json").read_text())["cells"]}
    few = by_name["school: few"]
    assert {few[name]["value"] for name in ("moved", "up", "down", "far")} == {None} == {few["new"]["exact"]["value"]}
    assert by_name["all rows"]["new"]["qwk"]["value"] is by_name["school: others"]["change"]["qwk"]["value"] is None
    assert by_name["t-1"]["new"]["qwk"]["value"] > 0.7 and by_name["all rows"]["new"]["exact"]["value"] > 0.5
