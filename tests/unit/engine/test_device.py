"""Adapters as device tensors, tried on ONNX Runtime's CPU provider: the plain path's bits, no table copied."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from making import make_adapter
from scoremux_engine import Engine
from scoremux_engine.errors import RunnerError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.choose import REFERENCE
from scoremux_engine.runners.device import DeviceRunner
from scoremux_engine.selftest import run_selftest
from scoremux_engine.store.store import Store
from scoremux_export.plans.reduced_precision import write_reduced

WORDS = ["an", "address", "names", "the", "host", "and", "a", "router", "sends", "packets", "on", "to", "it"]


def open_on_device(repository: Path, **more: int) -> tuple[Engine, DeviceRunner]:
    backbone = Backbone.open(repository / "backbone" / "1")
    runner = DeviceRunner(backbone, "cpu", threads=1)
    engine = Engine(backbone, Store(repository / "store"), runner, **more)
    engine.bank.describe()
    return engine, runner


def draw_rows(tasks: list[str], draw: random.Random, count: int) -> tuple[list[str], list[str]]:
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, 30))) for _ in range(count)]
    return texts, draw.choices(tasks, k=count)


@pytest.mark.parametrize("mixes", [10, pytest.param(300, marks=pytest.mark.nightly)])
def test_mixes_have_the_bits_of_the_plain_path_and_no_call_copies_a_table(mixed_repository: Path, mixes: int) -> None:
    engine, runner = open_on_device(mixed_repository)
    plain, draw = Engine.open(mixed_repository, runner=REFERENCE), random.Random(0)
    first = draw_rows(engine.bank.tasks * 2, draw, 4 * len(engine.bank.tasks))
    engine.logits(*first)
    engine.logits([first[0][0]] * len(engine.bank.tasks), engine.bank.tasks)
    slots, tables = runner.slots_copied, runner.tables_copied
    assert slots >= len(engine.bank.tasks)
    assert run_selftest(engine, mixes=mixes).changed is None
    for _ in range(10):
        rows = draw_rows(engine.bank.tasks, draw, 40)
        assert engine.logits(*rows).tobytes() == plain.logits(*rows).tobytes()
        assert engine.embed(*rows).tobytes() == plain.embed(*rows).tobytes()
    assert (runner.slots_copied, runner.tables_copied) == (slots, tables)


def test_versions_published_under_load_are_scored_as_they_are(own_repository: Path) -> None:
    engine, runner = open_on_device(own_repository)
    backbone, store, tasks = engine.backbone, Store(own_repository / "store"), engine.bank.tasks
    ended, answers = threading.Event(), list[tuple[str, str, str, bytes]]()

    def score(seed: int) -> None:
        draw = random.Random(seed)
        while not ended.is_set():
            texts, named = draw_rows(tasks, draw, 12)
            for text, scored in zip(texts, engine.score(texts, named), strict=True):
                answers.append((text, scored.task, scored.version, np.float32(scored.probabilities).tobytes()))

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(score, seed) for seed in range(3)]
        try:
            for number in range(12):
                task = tasks[number % 2]
                folder = own_repository / f"new-{number}" / task
                store.add([make_adapter(folder, backbone.spec, task, rank=4, seed=100 + number)], backbone)
                before = len(answers)
                while len(answers) < before + 40 and not any(each.done() for each in running):
                    pass
        finally:
            ended.set()
        for each in running:
            each.result()
    versions = {(task, version) for _, task, version, _ in answers}
    assert len(versions) >= len(tasks) + 10
    plain = Engine.open(own_repository, runner=REFERENCE)
    checked = random.Random(0).sample(answers, min(400, len(answers)))
    expected = plain.score([text for text, *_ in checked], [f"{task}@{version}" for _, task, version, _ in checked])
    for (_, task, _, found), scored in zip(checked, expected, strict=True):
        assert np.float32(scored.probabilities).tobytes() == found, task
    assert runner.slots_copied <= len(versions) + 2 * 8, "each version once, and again where a tensor grows"


@pytest.mark.parametrize(("tasks", "slots"), [(40, 8), pytest.param(1000, 200, marks=pytest.mark.nightly)])
def test_more_tasks_than_the_bank_holds(exported: Path, tmp_path: Path, tasks: int, slots: int) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "backbone").symlink_to(exported / "backbone")
    backbone = Backbone.open(repository / "backbone" / "1")
    made = [make_adapter(tmp_path / f"t-{n}", backbone.spec, f"t-{n}", rank=4, seed=n) for n in range(tasks)]
    Store(repository / "store").add(made, backbone)
    plain = Engine.open(repository, runner=REFERENCE)
    plain.logits(["host"], ["t-0"])
    with plain.bank.checkout() as versions:
        pool = versions.find("t-0").pool  # type: ignore[union-attr]
    assert pool is not None
    engine, runner = open_on_device(repository, bank_bytes=slots * pool.slot_bytes + (1 << 16))
    draw = random.Random(0)
    for _ in range(tasks // 4):
        rows = draw_rows(engine.bank.tasks, draw, 12)
        assert engine.logits(*rows).tobytes() == plain.logits(*rows).tobytes()
    assert engine.bank.stats.evictions > tasks // 2 and engine.bank.stats.resident < 2 * slots
    found = next(iter(runner._pools.values()))
    assert all(value.shape()[0] <= 2 * slots + 8 for value in found.values.values())


def test_a_reduced_graph_is_asked_for_by_its_command_and_computed(own_repository: Path) -> None:
    backbone = Backbone.open(own_repository / "backbone" / "1")
    with pytest.raises(RunnerError, match=rf"run `scoremux export reduced {own_repository} --precision float16`"):
        DeviceRunner(backbone, "cpu", "float16")
    with pytest.raises(RunnerError, match="ONNX Runtime computes in float32, tf32, float16, bfloat16"):
        DeviceRunner(backbone, "cpu", "int8")
    write_reduced(backbone, "float16")
    engine = Engine(backbone, Store(own_repository / "store"), DeviceRunner(backbone, "cpu", "float16"))
    assert engine.precision == "float16"
    rows = draw_rows(engine.bank.tasks, random.Random(0), 40)
    apart = np.nanmax(np.abs(engine.logits(*rows) - Engine.open(own_repository, runner=REFERENCE).logits(*rows)))
    assert 0 < apart < 0.05
