"""The self-test finds a runner whose bits follow a row's neighbours, and says which row it was."""

import re
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from computed import computed_precisions
from making import TASKS, make_adapter
from scoremux.app import build
from scoremux_client import Status
from scoremux_engine import Engine
from scoremux_engine.bank.live import LiveVersions
from scoremux_engine.errors import RunnerError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.buckets import SizeClass
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_engine.runners.onnxruntime import OnnxRuntimeRunner
from scoremux_engine.runners.runner import Outputs
from scoremux_engine.selftest import pass_selftest, run_selftest
from scoremux_engine.store.store import Store

LARGE, LARGE_TASKS = {"lora_alpha": 4e4}, {"large-1", "large-2"}


class Leaky(OnnxRuntimeRunner):
    """Moves the last bit of a row's logits where others share its micro-batch."""

    def run(self, *args: Any, **options: Any) -> Outputs:
        out = super().run(*args, **options)
        return out if len(out.logits) == 1 else replace(out, logits=np.nextafter(out.logits, np.float32(9)))


def test_all_size_classes_and_lengths_take_part(small_repository: Path) -> None:
    test = run_selftest(Engine.open(small_repository), mixes=60)
    assert test.changed is None
    assert test.mixes == 60
    assert test.rows > 60
    assert test.sizes == {SizeClass(8, 8), SizeClass(16, 32)}
    assert test.buckets == {8, 16, 24, 32, 40, 48, 56, 64}
    test = run_selftest(Engine.open(small_repository), seconds=0, loading_s=0, longest=16)
    assert (test.mixes, test.rows, len(test.sizes)) == (1, 1, 1) and test.buckets <= {8, 16}


def test_a_bit_that_follows_the_neighbours_is_said_and_refuses_to_serve(small_repository: Path, tmp_path: Path) -> None:
    backbone = Backbone.open(small_repository / "backbone" / "1")
    engine = Engine(backbone, Store(small_repository / "store"), Leaky(backbone))
    test = run_selftest(engine, mixes=1000)
    assert test.changed is not None
    assert test.mixes < 1000
    assert test.changed.task in engine.bank.tasks
    assert 0 < test.changed.max_abs_difference < 1e-5
    assert f"task {test.changed.task}, padded to {test.changed.bucket} tokens" in str(test.changed)
    for folder in (None, tmp_path):
        with pytest.raises(RunnerError, match=r"bits are not stable on this machine: .*; selftest=off serves"):
            pass_selftest(engine, folder)
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_tested_once(small_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine.open(small_repository)
    pass_selftest(engine, tmp_path)
    monkeypatch.setattr(Engine, "logits", lambda *_: pytest.fail("tested again"))
    pass_selftest(engine, tmp_path)


def test_selftest_passes_before_a_large_store_is_known(small_repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scoremux_engine.bank.live.INLINE_BYTES", 0)
    monkeypatch.setattr(LiveVersions, "describe", lambda _: False)
    backbone = Backbone.open(small_repository / "backbone" / "1")
    engine = Engine(backbone, Store(small_repository / "store"), OnnxRuntimeRunner(backbone))
    test = run_selftest(engine, mixes=60)
    assert engine.bank.levels_max == 1
    assert (test.mixes, test.changed) == (60, None)


def test_a_store_without_tasks_has_nothing_to_compare(own_repository: Path) -> None:
    """A server may start on it; the command does not call that a proof."""
    Store(own_repository / "store").retire(TASKS)
    assert run_selftest(Engine.open(own_repository), mixes=10).mixes == 0
    done = CliRunner().invoke(build(), ["selftest", str(own_repository), "--profile", "cpu-reference"])
    assert done.exit_code == 1
    assert "nothing was compared" in done.output
    about = done.output.splitlines()[0]
    assert all(
        part in about
        for part in ("Linux", "; Python 3.", f"; scoremux {version('scoremux')}, openvino ", "; Triton 2", " MiB free")
    )


def test_a_rare_size_class_takes_part_under_a_time_limit(own_repository: Path, tmp_path: Path) -> None:
    """One task of rank 40 among 200 others: 32 of them, as a server's own test takes, leave it out."""
    backbone = Backbone.open(own_repository / "backbone" / "1")
    folders = [make_adapter(tmp_path / f"a-{n}", backbone.spec, f"a-{n}") for n in range(200)]
    folders.append(make_adapter(tmp_path / "rare", backbone.spec, "rare", rank=40))
    Store(own_repository / "store").add(folders, backbone)
    engine = Engine.open(own_repository)
    assert SizeClass(64, 8) in run_selftest(engine, mixes=20, seconds=600, longest=16).sizes
    assert SizeClass(64, 8) not in run_selftest(engine, mixes=20, tasks=32, longest=16).sizes


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_tasks_with_large_weights_are_scored(own_repository: Path, tmp_path: Path, precision: str) -> None:
    if precision not in computed_precisions():
        pytest.skip(f"this processor does not compute in {precision}")
    backbone = Backbone.open(own_repository / "backbone" / "1")
    folders = [make_adapter(tmp_path / f"large-{n}", backbone.spec, f"large-{n}", config=LARGE, seed=n) for n in (1, 2)]
    Store(own_repository / "store").add(folders, backbone)
    (tmp_path / "profile.toml").write_text(f'precision = "{precision}"\n')
    command = ["selftest", str(own_repository), "--profile", str(tmp_path / "profile.toml"), "--mixes", "1"]
    done = CliRunner().invoke(build(), [*command, "--longest", "16"])
    assert done.exit_code == 0, done.output
    assert re.search(rf"openvino {precision}: \S+ from the expected outputs, \S+ is allowed", done.output)
    scores = Engine.open(own_repository, runner=RunnerChoice(precision=precision)).score(
        ["the router"] * 2, sorted(LARGE_TASKS)
    )
    assert [score.status for score in scores] == [Status.OK] * 2


@pytest.mark.nightly
def test_the_threads_and_streams_of_the_profile_are_tested(mixed_repository: Path, tmp_path: Path) -> None:
    """With two threads a stream, ONNX Runtime's bits for ranks from 17 to 64 follow the neighbours."""
    repository = tmp_path / "repository"
    repository.mkdir()
    for folder in ("backbone", "store"):
        (repository / folder).symlink_to(mixed_repository / folder)
    command = ["selftest", str(repository), "--mixes", "15", "--longest", "48"]
    (repository / "profile.toml").write_text('runner = "onnxruntime"\nthreads = 2\nstreams = 2\n')
    one_each = CliRunner().invoke(build(), command)
    assert one_each.exit_code == 0, one_each.output
    (repository / "profile.toml").write_text('runner = "onnxruntime"\nthreads = 2\nstreams = 1\n')
    runner = RunnerChoice("onnxruntime", threads=2, streams=1)
    changes = run_selftest(Engine.open(mixed_repository, runner=runner), mixes=15, longest=48).changed is not None
    two = CliRunner().invoke(build(), command)
    assert two.exit_code == int(changes), two.output
    assert ("bits are not stable on this machine" in two.output) == changes
