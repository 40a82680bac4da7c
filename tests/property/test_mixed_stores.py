"""Stores as varied as users' are: no neighbour changes a bit of a row, on any runner, precision and instruction set."""

import os
import random
import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
import transformers

from arithmetic import digests
from computed import computed_runners, each_precision, each_runner
from families import DECODERS, each_family
from making import WORDS, Once, make_encoder, random_tables
from mixed_store import KINDS, Kind, make_mixed_repository, open_with_peft
from model_inputs import INPUTS, MAX_TOKENS, QUESTIONS, draw_response, tokens_of_transformers
from scoremux_engine import Engine
from scoremux_engine.bank.residents import Pool, Version
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.buckets import SizeClass
from scoremux_engine.model.tables import Tables
from scoremux_engine.model.tokens import Tokens
from scoremux_engine.runners.choose import DEFAULT, RunnerChoice
from scoremux_engine.runners.openvino import OpenVinoRunner
from scoremux_engine.runners.precisions import PRECISIONS
from scoremux_engine.runners.runner import Floats, RowInputs, pad
from scoremux_engine.selftest import run_selftest
from scoremux_engine.store.store import Store
from scoremux_export.export_graph import export_backbone
from scoremux_export.opening.openable import Opening
from serving import SCOREMUX
from watching import responses

STEPS = ("AVX512_CORE", "AVX512_CORE_VNNI", "AVX512_CORE_BF16")
"""Instruction sets that `make nightly` tries; `make test` tries AVX2 and what the processor has."""


@pytest.mark.parametrize("mixes", [8, pytest.param(400, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", computed_runners())
def test_rows_of_all_kinds_keep_their_bits(mixed_repository: Path, name: str, mixes: int) -> None:
    engine = Engine.open(mixed_repository, runner=computed_runners()[name])
    assert "bert.pooler.dense" in {site.name for site in engine.backbone.spec.sites}
    test = run_selftest(engine, mixes=mixes)
    assert test.changed is None
    assert test.sizes == {SizeClass(rank, levels) for rank in (8, 16, 64, 256) for levels in (8, 32)}


@pytest.mark.parametrize("mixes", [6, pytest.param(40, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", each_runner())
@pytest.mark.parametrize("family", each_family(DECODERS))
def test_rows_of_a_decoder_keep_their_bits(
    family: str, family_repository: Callable[[str], Path], name: str, mixes: int
) -> None:
    engine = Engine.open(family_repository(family), runner=computed_runners()[name])
    assert run_selftest(engine, mixes=mixes, longest=96).changed is None


@pytest.mark.parametrize("mixes", [5, pytest.param(120, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("family", ["mixed", *each_family(DECODERS)])
@pytest.mark.parametrize("precision", each_precision())
def test_a_row_has_the_same_bits_beside_rows_of_its_task_and_of_others(
    family: str, precision: str, mixes: int, mixed_repository: Path, family_repository: Callable[[str], Path]
) -> None:
    """Rows of one task are one segment of tokens (`runners.segments`), those of many tasks are many short ones."""
    repository = mixed_repository if family == "mixed" else family_repository(family)
    engine = Engine.open(repository, runner=RunnerChoice(precision=precision, threads=2, streams=2))
    draw = random.Random(mixes)
    rows = {task: [(draw_response(draw), task) for _ in range(24)] for task in engine.bank.tasks}

    def bits(rows: list[tuple[str, str]]) -> list[bytes]:
        columns = engine.score_columns(*map(list, zip(*rows, strict=True)), embeddings=True)
        scores = zip(columns["EMBEDDING"], columns["PROBABILITIES"], strict=True)
        return [vector.tobytes() + probabilities.tobytes() for vector, probabilities in scores]

    alone = {row: found for of_task in rows.values() for row, found in zip(of_task, bits(of_task), strict=True)}
    for number in range(mixes):
        tasks = draw.sample(sorted(rows), min(len(rows), draw.choice((1, 2, 4, len(rows)))))
        mix = draw.choices([row for task in tasks for row in rows[task]], k=round(200 ** draw.random()))
        assert bits(mix) == [alone[row] for row in mix], (number, tasks)


@pytest.fixture(params=[256, pytest.param(312, marks=pytest.mark.nightly)])
def wide(request: pytest.FixtureRequest, once: Once) -> Backbone:
    """A backbone of this width; blocks of kernels do not divide 312 columns."""
    if request.param == 256:
        return Backbone.open(request.getfixturevalue("mixed_repository") / "backbone" / "1")

    def make(repository: Path) -> None:
        source = make_encoder(repository / "source", layers=1, width=312)
        export_backbone(str(source), Opening("query,value,dense"), repository)

    return Backbone.open(once("312", make) / "backbone" / "1")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", computed_runners())
def test_rows_that_are_not_finite_stay_alone(wide: Backbone, name: str) -> None:
    """Tables of 40 columns, which blocks of kernels do not divide: nothing beyond them may be read."""
    runner, draw = computed_runners()[name].make(wide), np.random.default_rng(0)
    good = random_tables(wide.spec, groups=3, rank=40)
    huge = np.array([1, 1e30, 1], np.float32)  # the second task's A and B: their product is beyond float32
    arrays = {n: a * huge[:, None, None] if n[:2] in ("A.", "B.") else a for n, a in good.arrays.items()}
    for longest in (8, 16, 40, 64):
        lengths = draw.integers(longest - 7, longest + 1, 24).tolist()
        tokens = [Tokens(draw.integers(5, 40, n).tolist(), [0] * n, False) for n in lengths]
        rows = pad(tokens, np.arange(24) % 3, longest, wide.spec)
        expected, got = runner.run(rows, good).logits, runner.run(rows, Tables(arrays)).logits
        assert np.isfinite(expected).all() and not np.isfinite(got[1::3]).any()
        others = rows.group != 1
        assert got[others].tobytes() == expected[others].tobytes()


@pytest.mark.parametrize("precision", each_precision())
def test_streams_that_meet_new_shapes_at_once_compute_the_same(mixed_repository: Path, precision: str) -> None:
    backbone = Backbone.open(mixed_repository / "backbone" / "1")
    runner, draw = OpenVinoRunner(backbone, precision, threads=2, streams=2), np.random.default_rng(0)
    tables, start = random_tables(backbone.spec, groups=1, rank=8), Barrier(2)

    def run(rows: RowInputs) -> Floats:
        start.wait()
        return runner.run(rows, tables).logits

    with ThreadPoolExecutor(2) as streams:
        for count in draw.permutation(np.arange(30, 70)).tolist():
            lengths = draw.integers(9, 17, count).tolist()
            tokens = [Tokens(draw.integers(5, 40, n).tolist(), [0] * n, False) for n in lengths]
            rows = pad(tokens, np.zeros(count, np.int64), 16, backbone.spec)
            one, other = streams.map(run, [rows, rows])
            assert one.tobytes() == other.tobytes(), count


def test_a_row_has_the_same_bits_whatever_fits_into_micro_batch_and_bank(small_repository: Path) -> None:
    backbone, store = Backbone.open(small_repository / "backbone" / "1"), Store(small_repository / "store")
    slot_bytes = Pool(backbone.spec, SizeClass(8, 32), {}, 1).slot_bytes
    banks = [Engine.open(small_repository, bank_bytes=int(slots * slot_bytes)) for slots in (0, 2.5)]
    rows = responses(200)
    texts, tasks = [row.text for row in rows], [row.task for row in rows]
    expected = Engine.open(small_repository).logits(texts, tasks).tobytes()
    for engine in (Engine(backbone, store, DEFAULT.make(backbone), budget_tokens=48), *banks):
        assert engine.logits(texts, tasks).tobytes() == expected
        assert run_selftest(engine, mixes=6).changed is None


@pytest.mark.parametrize("step", ["AVX2", *(pytest.param(step, marks=pytest.mark.nightly) for step in STEPS)])
def test_bits_hold_or_a_precision_is_refused_at_every_instruction_set(mixed_repository: Path, step: str) -> None:
    command = [SCOREMUX, "selftest", str(mixed_repository), "--mixes", "5"]
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": step, "COLUMNS": "300"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    tested = [line.split("│") for line in done.stdout.splitlines() if re.search("│ *(onnxruntime|openvino)", line)]
    assert [cells[2].strip() for cells in tested] == ["float32", *PRECISIONS]
    for cells in tested:
        refused = f"not tested: this processor does not compute in {cells[2].strip()}; it computes in float32"
        assert cells[8].strip() == "0" or cells[8].strip().startswith(refused)
    assert [cells[8].strip() for cells in tested[:2]] == ["0", "0"]


def test_the_logits_of_every_kind_are_those_of_peft(mixed_repository: Path) -> None:
    engine = Engine.open(mixed_repository)
    source = str(mixed_repository / "source")
    draw = random.Random(5)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, 50))) for _ in range(4)]
    tokens = [row.ids for row in engine.backbone.tokenizer.encode(texts)]
    tasks = [f"t-{n}" for n in range(len(KINDS))]
    rows = [(text, task) for text in texts for task in tasks]
    draw.shuffle(rows)
    logits = dict(zip(rows, engine.logits([t for t, _ in rows], [t for _, t in rows]), strict=True))
    for task, kind in zip(tasks, KINDS, strict=True):
        oracle = open_with_peft(source, mixed_repository / "adapters" / task, kind.levels)
        for text, ids in zip(texts, tokens, strict=True):
            with torch.inference_mode():
                expected = oracle(input_ids=torch.tensor([ids])).logits[0].numpy()
            got = logits[text, task][: kind.levels]
            assert np.abs(got - expected).max() <= 1e-4, (task, kind)
            assert got.argmax() == expected.argmax()


@dataclass
class Distance:
    """max_abs_difference: of logits from PEFT's; levels: how many differ; without_types: PEFT's own, without types."""

    max_abs_difference: float = 0.0
    levels: int = 0
    without_types: float = 0.0


def measure(repository: Path, count: int, seed: int) -> Distance:
    """Score random rows of all tasks in one batch, and each through PEFT with AutoTokenizer's tokens."""
    engine, source = Engine.open(repository), repository / "source"
    auto, draw, distance = transformers.AutoTokenizer.from_pretrained(source), random.Random(seed), Distance()
    rows = [(draw_response(draw), draw.choice(engine.bank.tasks)) for _ in range(count)] + [("", "t-0")]
    logits = engine.logits([text for text, _ in rows], [task for _, task in rows])
    with engine.bank.checkout() as versions:
        found = {task: versions.find(task) for task in engine.bank.tasks}
    for task, version in found.items():
        assert isinstance(version, Version)
        oracle = open_with_peft(str(source), repository / "adapters" / task, version.outputs)
        for (text, _), row in ((one, row) for one, row in zip(rows, logits, strict=True) if one[1] == task):
            seen = tokens_of_transformers(auto, version.task.render(text))
            inputs = {name: torch.tensor([seen[name]]) for name in ("input_ids", "token_type_ids")}
            with torch.inference_mode():
                expected = oracle(**inputs).logits[0].numpy()
                plain = oracle(inputs["input_ids"]).logits[0].numpy()
            got = row[: version.outputs]
            distance.max_abs_difference = max(distance.max_abs_difference, float(np.abs(got - expected).max()))
            distance.levels += int(got.argmax() != expected.argmax())
            distance.without_types = max(distance.without_types, float(np.abs(plain - expected).max()))
    return distance


@pytest.mark.nightly
def test_logits_of_pairs_and_templates_are_those_of_peft(tmp_path: Path) -> None:
    """By day, `test_windows.py` compares pairs and templates, and `test_decoders.py` those of decoders.

    In a narrower model token types hardly change the logits.
    """
    source = make_encoder(tmp_path / "source", layers=1, width=256, max_tokens=MAX_TOKENS)
    kinds = (
        Kind((4, 8, 24)[n % 3], 2 + n % 4, task={"question": QUESTIONS[n % 3], "rubric": "{x}", "input": given})
        for n, given in enumerate(INPUTS)
    )
    make_mixed_repository(str(source), tmp_path, tuple(kinds), Opening("query,value"))
    distance = measure(tmp_path, 150, seed=6)
    assert distance.max_abs_difference <= 1e-4
    assert distance.levels == 0
    assert distance.without_types > 1e-2


MIXES = 14


@pytest.mark.parametrize("limit", ["AVX2", pytest.param("AVX512_CORE", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("family", ["bert", "qwen3", pytest.param("gemma2", marks=pytest.mark.nightly)])
def test_float32_is_one_arithmetic(family: str, limit: str, exported_family: Callable[[str], Path]) -> None:
    """Gemma 2 has windows that slide and soft caps, too."""
    narrow, wide = (digests(exported_family(family) / "backbone" / "1", at, MIXES, 128) for at in (limit, ""))
    assert narrow == wide
    assert len(set(wide)) == MIXES
