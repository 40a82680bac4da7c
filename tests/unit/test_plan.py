"""TensorRT plans: profiles and arguments; the build itself needs a GPU."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from scoremux_engine.backbone import Backbone, BackboneSpec
from scoremux_export.errors import ExportError
from scoremux_export.plan import Ranges, device_name, profiles, trtexec_arguments


def test_there_is_a_profile_a_bucket_and_rows_fill_the_budget(spec: BackboneSpec) -> None:
    made = profiles(spec, Ranges(budget_tokens=256, groups=10, rank=32, levels=8))
    assert [p["input_ids"][0] for p in made] == [(1, n) for n in (8, 16, 24, 32, 40, 48, 56, 64)]
    assert [p["input_ids"][2][0] for p in made] == [32, 16, 10, 8, 6, 5, 4, 4]


def test_a_profile_covers_every_input_and_its_shapes_ascend(spec: BackboneSpec) -> None:
    for profile in profiles(spec, Ranges()):
        assert list(profile) == [*spec.row_inputs, *spec.table_inputs]
        for smallest, likeliest, largest in profile.values():
            assert all(a <= b <= c for a, b, c in zip(smallest, likeliest, largest, strict=True))


def test_table_shapes_range_over_groups_ranks_and_levels_only(spec: BackboneSpec) -> None:
    (profile, *_) = profiles(spec, Ranges(groups=10, rank=32, levels=8))
    site = spec.sites[0].name
    assert profile[f"A.{site}"] == ((1, 8, 1), (10, 8, 8), (10, 8, 32))
    assert profile[f"B.{site}"] == ((1, 1, 8), (10, 8, 8), (10, 32, 8))
    assert profile["weight.classifier"] == ((1, 8, 2), (10, 8, 5), (10, 8, 8))


def test_trtexec_gets_every_profile_the_precision_and_the_timing_cache(spec: BackboneSpec, tmp_path: Path) -> None:
    backbone = Backbone(tmp_path, spec)
    arguments = trtexec_arguments(backbone, tmp_path / "out.plan", "bfloat16", Ranges(), tmp_path / "cache")
    assert f"--onnx={tmp_path / 'backbone.onnx'}" in arguments
    assert "--bf16" in arguments
    assert f"--timingCacheFile={tmp_path / 'cache'}" in arguments
    assert [a for a in arguments if a.startswith("--profile=")] == [f"--profile={n}" for n in range(8)]
    assert sum(a.startswith("--minShapes='input_ids':1x") for a in arguments) == 8


def test_an_unknown_precision_is_refused(spec: BackboneSpec, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="precision is 'int4'"):
        trtexec_arguments(Backbone(tmp_path, spec), tmp_path / "out.plan", "int4", Ranges())


def test_a_machine_without_a_gpu_is_told_so() -> None:
    def missing(command: Sequence[str]) -> str:
        raise FileNotFoundError(command[0])

    def broken(command: Sequence[str]) -> str:
        raise subprocess.CalledProcessError(9, command)

    for run in (missing, broken):
        with pytest.raises(ExportError, match="this machine shows none"):
            device_name(run)


def test_the_first_gpu_is_named() -> None:
    assert device_name(lambda _: "NVIDIA H100, 570.1\nNVIDIA H100, 570.1\n") == "NVIDIA H100, 570.1"
