"""TensorRT plans: profiles, graphs in float16 and bfloat16, and plans that TensorRT for RTX builds without a GPU."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest

from benchmarks.plan_layers import read_layers
from making import write_plan
from scoremux_engine.errors import BackboneError
from scoremux_engine.model.backbone import Backbone, BackboneSpec
from scoremux_engine.model.plan import PLAN, PLAN_LAYERS, PlanSpec
from scoremux_export.errors import ExportError
from scoremux_export.plans.build_plan import PlanRanges, export_plan, gpu_capability
from scoremux_export.plans.reduced_precision import NARROW, compare_reduced, reduce, write_reduced

needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")


@pytest.fixture
def own_backbone(exported: Path, tmp_path: Path) -> Backbone:
    """A copy of the small backbone, in a repository that the test may change."""
    shutil.copytree(exported / "backbone", tmp_path / "repository" / "backbone")
    return Backbone.open(tmp_path / "repository" / "backbone" / "1")


def test_there_is_a_profile_for_each_bucket_and_rank_class_and_rows_fill_the_budget(spec: BackboneSpec) -> None:
    made = PlanRanges(budget_tokens=256, rank=20).profiles(spec)
    buckets = (8, 16, 24, 32, 40, 48, 56, 64)
    assert [(p.tokens, p.rank) for p in made] == [(bucket, rank) for rank in (8, 16, 64) for bucket in buckets]
    assert [p.rows for p in made[:8]] == [32, 16, 10, 8, 6, 5, 4, 4]


def test_a_profile_fixes_what_a_row_decides_and_lets_range_what_others_do(spec: BackboneSpec) -> None:
    ranges = PlanRanges(budget_tokens=256, groups=100, levels=9)
    shapes = ranges.shapes(spec, ranges.profiles(spec)[1])
    site = spec.sites[0].name
    assert list(shapes) == [*spec.row_inputs, *spec.table_inputs]
    assert shapes["input_ids"] == ((1, 16), (16, 16), (16, 16))
    assert shapes[f"A.{site}"] == ((1, 8, 8), (27, 8, 8), (100, 8, 8))
    assert shapes["weight.classifier"] == ((1, 8, 8), (27, 8, 8), (100, 8, 32))


@pytest.mark.parametrize("precision", NARROW)
def test_a_reduced_graph_is_near_float32_and_takes_the_same_inputs(precision: str, own_backbone: Backbone) -> None:
    was, now = (onnx.load(path) for path in (own_backbone.onnx, write_reduced(own_backbone, precision)))
    onnx.shape_inference.infer_shapes(now, check_type=True, strict_mode=True)  # types fit together everywhere
    assert list(now.graph.input) == list(was.graph.input)
    assert [output.name for output in now.graph.output] == [output.name for output in was.graph.output]
    parity = compare_reduced(own_backbone, precision)
    assert parity.rows == 64
    assert 0 < parity.max_abs_logit_difference < {"float16": 1e-3, "bfloat16": 1e-2}[precision]
    assert parity.levels_changed <= 1


def test_products_of_positions_stay_in_float32_and_masks_stay_finite() -> None:
    """A rotary angle in bfloat16 would be off by whole turns, and −infinity times zero is no number."""
    values = {"table": np.ones((9, 4)), "inverse": np.ones((4, 4)), "mask": np.full((1,), np.finfo(np.float32).min)}
    nodes = [
        onnx.helper.make_node("Gather", ["table", "ids"], ["tokens"]),
        onnx.helper.make_node("Cast", ["ids"], ["positions"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Unsqueeze", ["positions", "axis"], ["column"]),
        onnx.helper.make_node("MatMul", ["column", "line"], ["angles"]),
        onnx.helper.make_node("MatMul", ["tokens", "inverse"], ["product"]),
        onnx.helper.make_node("Mul", ["product", "mask"], ["masked"]),
        onnx.helper.make_node("Add", ["masked", "angles"], ["sum"]),
    ]
    initializers = [onnx.numpy_helper.from_array(v.astype(np.float32), n) for n, v in values.items()]
    initializers += [onnx.numpy_helper.from_array(np.ones((1, 4), np.float32), "line")]
    initializers += [onnx.numpy_helper.from_array(np.array([1]), "axis")]
    ids = onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["S"])
    total = onnx.helper.make_tensor_value_info("sum", onnx.TensorProto.FLOAT, ["S", 4])
    graph = onnx.helper.make_graph(nodes, "small", [ids], [total], initializers)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])
    model.graph.value_info.extend(onnx.shape_inference.infer_shapes(model).graph.value_info)
    opened = onnx_ir.from_proto(model)
    reduce(opened, NARROW["bfloat16"])
    model = onnx_ir.to_proto(opened)
    kinds = {node.op_type: list(node.input) for node in model.graph.node if node.op_type in ("Mul", "Add")}
    products = {node.output[0]: list(node.input) for node in model.graph.node if node.op_type == "MatMul"}
    assert products == {"angles": ["column", "line"], "product": ["tokens.narrow", "inverse.narrow"]}
    assert kinds == {"Mul": ["product", "mask.narrow"], "Add": ["masked.float32", "angles"]}
    (mask,) = (onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "mask.narrow")
    assert np.isfinite(mask.astype(np.float32)).all()


@needs_rtx
def test_a_plan_is_built_without_a_gpu_and_computes_as_its_graph_says(own_backbone: Backbone) -> None:
    repository, spec = own_backbone.folder.parents[1], own_backbone.spec
    ranges = PlanRanges(budget_tokens=128, groups=32, rank=8)
    made = export_plan(repository, "float16", ranges, runtime="tensorrt-rtx", capabilities=["8.9", "12.0"])
    assert made == PlanSpec.read(own_backbone.folder, spec.digest)
    assert made.capabilities == ("8.9", "12.0")
    assert (own_backbone.folder / PLAN).stat().st_size > 10_000
    text = (own_backbone.folder / PLAN_LAYERS).read_text()
    for name, shape in {**spec.row_inputs, **spec.table_inputs}.items():
        kind = "Int64" if name in spec.row_inputs else "Float"
        # There is one rank class and one of L_max, so these sizes are fixed.
        fixed = {"R": 8, "L_max": 8}
        dims = ",".join(str(fixed.get(n, -1)) if isinstance(n, str) else str(n) for n in shape)
        (line,) = (line for line in text.splitlines() if line.startswith(f" Name: {name}, IOMode: Input"))
        assert f"DataType: {kind}, Dimensions: [{dims}]" in line
        assert line.count("MinShape") == len(made.profiles) == 8
    products = [layer for layer in read_layers(text) if layer.is_product]
    # Of each profile's products the head's alone is in float32.
    assert sum(layer.in_float32 for layer in products) == len(made.profiles)
    assert sum(layer.gives == ("Half",) for layer in products) > 10 * len(made.profiles)


def test_an_unknown_precision_or_runtime_is_refused(own_backbone: Backbone) -> None:
    repository = own_backbone.folder.parents[1]
    with pytest.raises(ExportError, match="precision is 'int4'"):
        export_plan(repository, "int4")
    with pytest.raises(ExportError, match="runtime is 'cuda'"):
        export_plan(repository, runtime="cuda")


def test_a_plan_of_another_backbone_is_refused(own_backbone: Backbone) -> None:
    with pytest.raises(BackboneError, match=r"backbone\.plan\.json is missing: run `scoremux export plan` first"):
        PlanSpec.read(own_backbone.folder, own_backbone.spec.digest)
    write_plan(own_backbone.folder, own_backbone.spec.model_copy(update={"digest": "a" * 64}))
    with pytest.raises(BackboneError, match="was built from backbone aaaaaaaaaaaa"):
        PlanSpec.read(own_backbone.folder, own_backbone.spec.digest)


def test_a_machine_without_a_gpu_is_named() -> None:
    def missing(command: Sequence[str]) -> str:
        raise FileNotFoundError(command[0])

    def broken(command: Sequence[str]) -> str:
        raise subprocess.CalledProcessError(9, command)

    for run in (missing, broken):
        with pytest.raises(ExportError, match="this machine shows none"):
            gpu_capability(run)
    assert gpu_capability(lambda _: "9.0\n9.0\n") == "9.0"
