"""The judge: logged rows computed again in float64, against PEFT in float64 and against forged logs."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from families import each_family
from making import WORDS
from scoremux.app import build
from scoremux_client.audit_lines import CANARY_TEXT, text_digest
from scoremux_engine.backend.audit import Audit
from scoremux_engine.backend.metrics import FirstLabels, Recorder
from scoremux_engine.engine import Engine
from scoremux_engine.errors import AuditError, RunnerError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.provenance import Provenance
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_engine.runners.onnxruntime import OnnxRuntimeRunner
from scoremux_engine.store.store import Store
from scoremux_evidence.judge.float64_runner import Float64Graph, Float64Runner, Float64Scorer
from scoremux_evidence.judge.logged_rows import read_log, read_texts
from scoremux_export.opening.classifier import Classifier
from scoremux_export.opening.openable import Opening
from scoremux_export.opening.parity import prove
from scoremux_files.errors import InputError


@contextmanager
def float64_throughout() -> Iterator[None]:
    """Let transformers compute in float64 what it computes in float32 whatever a model's type, such as norms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        patch.setattr(torch, "float32", torch.float64)
        patch.setattr(torch, "float", torch.float64)
        yield


@pytest.mark.parametrize("family", each_family())
def test_judge_gives_the_logits_of_peft_in_float64(family: str, exported_family: Callable[[str], Path]) -> None:
    """Adapters of four kinds, and prefixes."""
    backbone = Backbone.open(exported_family(family) / "backbone" / "1")
    model, opening = Classifier.open(str(exported_family(family) / "source")).model, Opening("", dora=True, bias=True)
    with float64_throughout():
        assert prove(model, backbone, Float64Runner(backbone), opening).max_abs_logit_difference <= 1e-6


@pytest.mark.parametrize("rows", [1, 3])
def test_judge_gathers_elements_of_any_number_of_rows(rows: int, tmp_path: Path) -> None:
    """The reference implementation gives a wrong shape for one row."""
    node = onnx.helper.make_node("GatherElements", ["x", "places"], ["out"], axis=1)
    values = [onnx.ValueInfoProto(name=name) for name in ("x", "places", "out")]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "graph", values[:2], values[2:])), tmp_path / "g")
    x, places = np.arange(8 * rows).reshape(rows, 8), np.tile(np.arange(8)[::-1], (rows, 1))
    (out,) = Float64Graph(tmp_path / "g").run(["out"], {"x": x, "places": places})
    assert out.tolist() == x[:, ::-1].tolist()


def test_judge_needs_no_inference_library() -> None:
    code = (
        "import sys, scoremux_evidence.judge.float64_runner;"
        "assert not {'onnxruntime', 'openvino', 'tritonclient.grpc', 'torch'} & set(sys.modules), 'too much imported'"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


class Logged:
    """Forty responses that an engine scored, the audit log of that, and the programme's file of texts."""

    def __init__(self, repository: Path, folder: Path, choice: RunnerChoice | None = None, **keys: Any) -> None:
        self.repository, self.log, self.responses = repository, folder / "audit.log", folder / "responses.jsonl"
        backbone, store = Backbone.open(repository / "backbone" / "1"), Store(repository / "store")
        runner = choice.make(backbone) if choice else OnnxRuntimeRunner(backbone)
        self.arithmetic = runner.arithmetic if choice else "onnxruntime-avx2-f32"
        provenance = Provenance("0.1.0", "", "cpu", runner.precision, backbone.spec.digest, self.arithmetic)
        audit = Audit(self.log, provenance, Recorder(FirstLabels(100)), **keys)
        draw = np.random.default_rng(2)
        self.texts = [" ".join(draw.choice(WORDS, draw.integers(1, 20))) for _ in range(40)]
        names = [*store.manifest().tasks]
        tasks = [names[n % len(names)] for n in range(40)]
        tasks[-1] = f"t-1@{store.manifest().tasks['t-1']}"
        Engine(backbone, store, runner, observers=[audit]).score(self.texts, tasks)
        audit.close()
        rows = ({"id": f"r{n}", "text": text} for n, text in enumerate(self.texts))
        self.responses.write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    def judge(self, *options: str) -> tuple[int, str]:
        arguments = ["judge", str(self.log), "--responses", str(self.responses), "--repository", str(self.repository)]
        result = CliRunner().invoke(build(["judge"]), [*arguments, *options], catch_exceptions=False)
        return result.exit_code, result.stdout

    def change(self, place: int, change: Callable[[dict[str, Any]], None]) -> str:
        """Change a line of the log; return its response's id."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        change(lines[place])
        self.log.write_text("".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in lines))
        sha = lines[place]["digest"].partition(":")[2]
        return next(f"r{n}" for n, text in enumerate(self.texts) if hashlib.sha256(text.encode()).hexdigest() == sha)


def forge_level(line: dict[str, Any]) -> None:
    line["level"] = (line["level"] + 1) % len(line["probabilities"])


def forge_all(line: dict[str, Any]) -> None:
    """Give another level and probabilities that fit it, as another model would."""
    line["probabilities"] = line["probabilities"][1:] + line["probabilities"][:1]
    line["level"] = line["probabilities"].index(max(line["probabilities"]))


def forge_certainty(line: dict[str, Any]) -> None:
    line["probabilities"] = [float(place == line["level"]) for place in range(len(line["probabilities"]))]


def forge_head(line: dict[str, Any]) -> None:
    line["probabilities"] = [*line["probabilities"], 0.0]


def test_judge_confirms_an_honest_log_and_writes_what_float64_says(small_repository: Path, tmp_path: Path) -> None:
    logged = Logged(small_repository, tmp_path)
    status, shown = logged.judge("--json", "--out", str(tmp_path / "judged.jsonl"))
    ((name, figures),) = json.loads(shown)["arithmetics"].items()
    assert status == 0
    assert name == "onnxruntime-avx2-f32"
    assert (figures["judged"], figures["contradicted"], figures["logged"]) == (40, 0, 40)
    assert figures["same"] + figures["close"] == 40
    assert figures["same"] >= 36
    assert figures["tolerance"] == 2e-4
    assert 0 < figures["largest_difference"] < 1e-5
    judged = [json.loads(line) for line in (tmp_path / "judged.jsonl").read_text().splitlines()]
    assert {row["id"] for row in judged} <= {f"r{n}" for n in range(40)}
    assert all(row["level"] == int(np.argmax(row["logits"])) for row in judged)
    assert logged.judge()[0] == 0
    with pytest.raises(InputError, match="cannot be written"):
        logged.judge("--out", str(tmp_path))


@pytest.mark.parametrize("forge", [forge_level, forge_all, forge_certainty, forge_head])
def test_forged_row_is_named(small_repository: Path, tmp_path: Path, forge: Callable[[dict[str, Any]], None]) -> None:
    logged = Logged(small_repository, tmp_path)
    forged = logged.change(7, forge)
    status, shown = logged.judge("--json")
    assert (status, json.loads(shown)["contradicted"]) == (1, [forged])
    assert forged in logged.judge()[1]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(
            (key, value)
            for key in ("version", "backbone")
            for value in ("x" * 5000, "/etc", "../packages", "A" * 64, 7)
        ),
        *(("level", level) for level in ("1", 1.9, True, -1, "1e999")),
        *(("probabilities", values) for values in ([0.6, 1.4], [-0.5, 1.5], "123", [None], ["NaN", 1], [10**400, 0])),
    ],
)
def test_line_that_no_server_writes_is_refused(tmp_path: Path, key: str, value: object) -> None:
    line = {"format": 1, **dict.fromkeys(("digest", "task", "arithmetic"), "x"), "status": "OK"}
    line |= dict.fromkeys(("version", "backbone"), "a" * 64)
    line |= {"level": 0, "probabilities": [1.0], key: value}
    (tmp_path / "audit.log").write_text(json.dumps(line).replace('"1e999"', "1e999").replace('"NaN"', "NaN"))
    with pytest.raises(AuditError, match="line 1 is not a line of an audit log"):
        list(read_log([tmp_path / "audit.log"]))


def test_judge_names_a_package_that_was_changed(small_repository: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(small_repository, repository)
    logged = Logged(repository, tmp_path)
    store = Store(repository / "store")
    folder = store.package_folder(store.manifest().tasks["t-1"])
    (folder / "task.json").write_text((folder / "task.json").read_text() + " ")
    status, shown = logged.judge()
    assert status == 1
    assert "was changed" in shown and "rows are of packages that were changed" in shown


def test_judge_says_which_rows_it_cannot_judge(small_repository: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("a key that nobody guesses")
    logged = Logged(small_repository, tmp_path, key_file=key)
    assert logged.judge("--key-file", str(key))[0] == 0
    status, shown = logged.judge()
    assert status == 1
    assert "40 rows have texts that --responses does not hold (or another key)" in shown
    lines = logged.log.read_text()
    logged.log.write_text(lines.replace(Backbone.open(small_repository / "backbone" / "1").spec.digest, "b" * 64, 3))
    status, shown = logged.judge("--key-file", str(key))
    assert status == 1
    assert "3 rows were scored on another backbone" in shown
    assert logged.judge("--key-file", str(key), "--allow-unjudged", "3")[0] == 0
    logged.log.write_text(re.sub(r'"version": ?"\w+"', f'"version":"{"e" * 64}"', lines, count=20))
    status, shown = logged.judge("--key-file", str(key), "--rows", "20")
    assert status == 1
    assert "20 rows are of versions that the store does not have" in shown
    options = ("--key-file", str(key), "--rows", "20", "--allow-unjudged")
    assert [logged.judge(*options, count)[0] for count in ("19", "20")] == [1, 0]


def test_responses_with_a_null_text_are_read_and_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "responses.jsonl"
    path.write_text('{"id": "a", "text": null}\n{"id": "b", "text": "x"}\n')
    assert [(text.id, text.text) for _, text in read_texts([path], None, "id", "text")] == [("a", ""), ("b", "x")]
    path.write_text('{"id": "a", "text": "x"}\n{"id": "b"\n')
    with pytest.raises(InputError, match=r"responses\.jsonl, line 2: not JSON"):
        list(read_texts([path], None, "id", "text"))


def test_rows_are_drawn_among_those_whose_texts_are_given(small_repository: Path, tmp_path: Path) -> None:
    logged = Logged(small_repository, tmp_path)
    lines = logged.log.read_text().splitlines(keepends=True)
    canary = json.dumps(json.loads(lines[0]) | {"digest": text_digest(CANARY_TEXT.encode(), None)}) + "\n"
    logged.log.write_text("".join([*[canary] * 1000, *lines, *[canary] * 1000]))
    status, shown = logged.judge("--json", "--rows", "10")
    (figures,) = json.loads(shown)["arithmetics"].values()
    assert (status, figures["judged"], figures["logged"]) == (0, 10, 40)
    assert json.loads(shown)["not_judged"]["without_text"] == 0
    other = canary.replace(text_digest(CANARY_TEXT.encode(), None), f"sha256:{'0' * 64}")
    coded = json.dumps(json.loads(canary) | {"status": "CONDITION"}) + "\n"
    logged.log.write_text("".join([*lines, other, other, coded]))
    status, shown = logged.judge("--rows", "10")
    assert status == 1 and "2 rows have texts that --responses does not hold" in shown
    assert "1 rows have no score; they were not judged." in shown
    assert logged.judge("--rows", "10", "--allow-unjudged", "2")[0] == 0
    logged.log.write_text("".join([*lines, canary.replace('"format": 1', '"format": true')]))
    with pytest.raises(AuditError, match="another format than 1"):
        logged.judge()


def test_a_name_in_the_log_widens_no_tolerance(small_repository: Path, tmp_path: Path) -> None:
    """Probabilities as another arithmetic might give them need the user's word of what the servers ran."""
    logged = Logged(small_repository, tmp_path)

    def flatten(line: dict[str, Any]) -> None:
        powers = np.array(line["probabilities"]) ** 0.9
        line |= {"probabilities": (powers / powers.sum()).tolist(), "arithmetic": "vnni-int8-f32"}

    for place in range(40):
        logged.change(place, flatten)
    status, shown = logged.judge("--json")
    assert (status, len(json.loads(shown)["contradicted"]) > 20) == (1, True)
    assert logged.judge("--arithmetic", "abacus", "--json") == (status, shown)
    status, shown = logged.judge("--json", "--arithmetic", "vnni-int8-f32")
    assert (status, json.loads(shown)["arithmetics"]["vnni-int8-f32"]["tolerance"]) == (0, 1.0)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_rows_of_a_mixed_store_are_the_same_or_close(mixed_repository: Path, tmp_path: Path, precision: str) -> None:
    try:
        logged = Logged(mixed_repository, tmp_path, RunnerChoice("openvino", precision=precision))
    except RunnerError:
        assert precision == "int8"
        pytest.skip("this processor has no VNNI, so that int8 is not offered")
    limits = [] if precision == "float32" else ["--arithmetic", logged.arithmetic]
    status, shown = logged.judge("--json", *limits)
    (figures,) = json.loads(shown)["arithmetics"].values()
    assert (status, figures["same"] + figures["close"], figures["judged"]) == (0, 40, 40)
    forged = logged.change(11, forge_certainty)
    status, shown = logged.judge("--json", *limits)
    assert (status, json.loads(shown)["contradicted"]) == (1, [forged])


def test_every_version_of_a_store_can_be_judged(small_repository: Path) -> None:
    store = Store(small_repository / "store")
    scorer = Float64Scorer(Backbone.open(small_repository / "backbone" / "1"), store)
    for digest in store.digests():
        version = scorer.version(digest)
        assert scorer.logits(version, "the router").shape == (version.outputs,)
