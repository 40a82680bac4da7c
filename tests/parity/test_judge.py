"""The judge: logged rows computed again in float64, against PEFT in float64 and against forged logs."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from judged import difference_from_peft, reach
from making import ROOT, WORDS
from scoremux_cli.app import build
from scoremux_engine.engine import Engine
from scoremux_engine.errors import AuditError
from scoremux_engine.judge.exact_operations import exact_constant
from scoremux_engine.judge.exact_rows import ExactScorer
from scoremux_engine.judge.logged_rows import read_log
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.provenance import Provenance
from scoremux_engine.runners.onnxruntime import OnnxRuntimeRunner
from scoremux_engine.store.store import Store
from scoremux_engine.triton.audit import Audit, AuditSettings
from scoremux_engine.triton.metrics import FirstLabels, Recorder
from scoremux_files.errors import InputError


@pytest.mark.parametrize("family", ["mpnet", "llama"])
def test_judge_gives_the_logits_of_peft_in_float64(family: str, tmp_path: Path) -> None:
    assert difference_from_peft(family, tmp_path) <= 1e-12


@pytest.mark.parametrize("family", ["bert", "gemma3"])
def test_bounds_are_what_the_worst_errors_reach_and_no_runner_does(family: str, tmp_path: Path) -> None:
    """A wrong derivative of an operation moves the shares away from 1."""
    reached = reach(family, tmp_path, 4)
    assert 0.95 < reached.worst[0] <= reached.worst[1] < 1.05
    assert 0 < reached.float32 < 0.05


@pytest.mark.parametrize(
    ("rounded", "meant"),
    [
        (1e-12, 1e-12),
        (1e-5, 1e-5),
        (0.044715, 0.044715),
        (1 / 32**0.5, 1 / 32**0.5),
        (27**0.5, 27**0.5),
        (0.5, 0.5),
        (0, 0),
    ],
)
def test_scalars_of_a_graph_are_read_as_the_numbers_they_were_rounded_from(rounded: float, meant: float) -> None:
    assert exact_constant(float(np.float32(rounded))) == meant
    assert exact_constant(-float(np.float32(rounded))) == -meant
    assert exact_constant(0.123456789) == 0.123456789


def test_logits_of_a_row_have_equal_bits_alone_in_company_and_with_other_libraries(small_repository: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from scoremux_engine.judge.exact_rows import ExactScorer;"
        "from scoremux_engine.model.backbone import Backbone; from scoremux_engine.store.store import Store;"
        "root = Path(sys.argv[1]); store = Store(root / 'store');"
        "scorer = ExactScorer(Backbone.open(root / 'backbone' / '1'), store);"
        "version = scorer.version(store.manifest().tasks['t-1']); texts = sys.argv[2:];"
        "alone = [scorer.logits(version, [text]).tobytes().hex() for text in texts];"
        "assert ''.join(alone) == scorer.logits(version, texts).tobytes().hex();"
        "assert not {'onnxruntime', 'openvino', 'tritonclient.grpc', 'torch'} & set(sys.modules), 'too much imported';"
        "print(*alone)"
    )
    texts = [" ".join(WORDS[:n]) for n in (1, 3, 9, 30)]
    settings = [{}, {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX"}]
    digests = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, str(small_repository), *texts],
            env={"PATH": "", "PYTHONPATH": ":".join(str(ROOT / part) for part in ("client", "engine")), **setting},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for setting in settings
    ]
    assert digests[0] == digests[1]
    assert len(set(digests[0].split())) == len(texts)


class Logged:
    """Forty responses that an engine scored, the audit log of that, and the programme's file of texts."""

    def __init__(self, repository: Path, folder: Path, **parameters: str) -> None:
        self.repository, self.log, self.responses = repository, folder / "audit.log", folder / "responses.jsonl"
        backbone, store = Backbone.open(repository / "backbone" / "1"), Store(repository / "store")
        provenance = Provenance("0.1.0", "onnxruntime", "cpu", "float32", backbone.spec.digest, "onnxruntime-avx2-f32")
        settings = AuditSettings.of({"audit_log": str(self.log), **parameters})
        audit = Audit.open(settings, provenance, Recorder(FirstLabels(100)))
        assert audit is not None
        draw = np.random.default_rng(2)
        self.texts = [" ".join(draw.choice(WORDS, draw.integers(1, 20))) for _ in range(40)]
        tasks = [f"t-{n % 4 + 1}" for n in range(40)]
        tasks[-1] = f"t-1@{store.manifest().tasks['t-1']}"
        Engine(backbone, store, OnnxRuntimeRunner(backbone), observers=[audit]).score(self.texts, tasks)
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
    assert figures["certain"] + figures["not_close"] + figures["close"] == 40
    assert figures["certain"] >= 38
    assert 0 < figures["largest_difference"] < 1e-5
    judged = [json.loads(line) for line in (tmp_path / "judged.jsonl").read_text().splitlines()]
    assert {row["id"] for row in judged} <= {f"r{n}" for n in range(40)}
    assert all(row["level"] == int(np.argmax(row["logits"])) for row in judged)
    assert logged.judge()[0] == 0
    with pytest.raises(InputError, match="cannot be written"):
        logged.judge("--out", str(tmp_path))


@pytest.mark.parametrize("forge", [forge_level, forge_all, forge_certainty, forge_head])
def test_judge_names_a_forged_row(
    small_repository: Path, tmp_path: Path, forge: Callable[[dict[str, Any]], None]
) -> None:
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


def test_judge_contradicts_a_log_that_another_model_wrote(small_repository: Path, tmp_path: Path) -> None:
    logged = Logged(small_repository, tmp_path)
    for place in range(40):
        logged.change(place, forge_all)
    status, shown = logged.judge("--json")
    assert (status, len(json.loads(shown)["contradicted"])) == (1, 40)


def test_judge_names_a_package_that_was_changed(small_repository: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(small_repository, repository)
    logged = Logged(repository, tmp_path)
    store = Store(repository / "store")
    folder = store.package_folder(store.manifest().tasks["t-1"])
    (folder / "task.json").write_text((folder / "task.json").read_text() + " ")
    status, shown = logged.judge()
    assert status == 1
    assert "was changed" in shown


def test_judge_says_which_rows_it_cannot_judge(small_repository: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("a key that nobody guesses")
    logged = Logged(small_repository, tmp_path, audit_key_file=str(key))
    assert logged.judge("--key-file", str(key))[0] == 0
    status, shown = logged.judge()
    assert status == 1
    assert "40 rows have texts that --responses does not hold (canaries, or another key)" in shown
    lines = logged.log.read_text()
    logged.log.write_text(lines.replace(Backbone.open(small_repository / "backbone" / "1").spec.digest, "b" * 64, 3))
    status, shown = logged.judge("--key-file", str(key))
    assert status == 1
    assert "3 rows were scored on another backbone" in shown
    assert logged.judge("--key-file", str(key), "--allow-unjudged", "3")[0] == 0


def test_rows_of_versions_that_nobody_has_need_a_word_of_the_user(small_repository: Path, tmp_path: Path) -> None:
    logged = Logged(small_repository, tmp_path)
    for place in range(20):
        logged.change(place, lambda line: line.update(version="e" * 64))
    status, shown = logged.judge("--rows", "20")
    assert status == 1
    assert "20 rows are of versions that the store does not have" in shown
    assert [logged.judge("--rows", "20", "--allow-unjudged", count)[0] for count in ("19", "20")] == [1, 0]


def test_rows_are_drawn_among_those_whose_texts_are_given(small_repository: Path, tmp_path: Path) -> None:
    logged = Logged(small_repository, tmp_path)
    lines = logged.log.read_text().splitlines(keepends=True)
    canary = json.dumps(json.loads(lines[0]) | {"digest": f"sha256:{'0' * 64}"}) + "\n"
    logged.log.write_text("".join([*[canary] * 1000, *lines, *[canary] * 1000]))
    status, shown = logged.judge("--json", "--rows", "10", "--no-bounds")
    (figures,) = json.loads(shown)["arithmetics"].values()
    assert (status, figures["judged"], figures["logged"]) == (0, 10, 40)
    assert json.loads(shown)["not_judged"]["without_text"] == 2000


def test_every_version_of_a_store_can_be_judged(small_repository: Path) -> None:
    store = Store(small_repository / "store")
    scorer = ExactScorer(Backbone.open(small_repository / "backbone" / "1"), store)
    for digest in store.digests():
        version = scorer.version(digest)
        assert scorer.logits(version, ["", "the router"]).shape == (2, version.outputs)
