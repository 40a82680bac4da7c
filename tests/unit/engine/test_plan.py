"""Plans for TensorRT, and OpenVINO: packed tokens, int8, tables in place, bounded memory, a row that has all cores."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import openvino
import pytest
from openvino import opset13 as ops

from benchmarks.plan_layers import read_layers
from computed import computed_precisions
from making import ROOT, random_tables, write_plan
from scoremux_engine.errors import BackboneError
from scoremux_engine.model.backbone import Backbone, BackboneSpec, Site
from scoremux_engine.model.plan import PLAN, PLAN_LAYERS, PlanSpec
from scoremux_engine.runners import precisions
from scoremux_engine.runners.int8 import int8_constant, quantise, rounded
from scoremux_engine.runners.norm_ranges import RangeRunner
from scoremux_engine.runners.openvino import BesideStreams, OpenVinoRunner
from scoremux_engine.runners.packing import FIRST, PACK, ROWS, STEP, UNPACK, pack_tokens, packed_feeds
from scoremux_engine.runners.portable_math import make_portable
from scoremux_engine.runners.runner import Floats, RowInputs
from scoremux_export.errors import ExportError
from scoremux_export.plans.build_plan import PlanRanges, export_plan, gpu, lengths_of, plan_memory
from scoremux_export.plans.reduced_precision import NARROW, compare_reduced, reduce, write_reduced

needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")


@pytest.fixture
def own_backbone(exported: Path, tmp_path: Path) -> Backbone:
    """A copy of the small backbone, in a repository that the test may change."""
    shutil.copytree(exported / "backbone", tmp_path / "repository" / "backbone")
    return Backbone.open(tmp_path / "repository" / "backbone" / "1")


def test_profiles_end_at_given_lengths_and_hold_every_micro_batch(backbone: Backbone) -> None:
    spec = backbone.spec
    ranges = PlanRanges(budget_tokens=256, groups=30, rank=20, levels=9, lengths=(9, 16, 31))
    profiles = ranges.profiles(spec)
    assert [(p.least_tokens, p.tokens, p.rows) for p in profiles] == [(8, 16, 30), (24, 32, 10), (40, 64, 6)]
    assert [p.tokens for p in PlanRanges().profiles(spec)] == [64], "no text is longer"
    assert [p.tokens for p in PlanRanges().profiles(spec.model_copy(update={"max_tokens": 100}))] == [64, 100]
    shapes = ranges.shapes(spec, profiles[1])
    site, width = spec.sites[0].name, spec.sites[0].d_in
    assert list(shapes) == [*spec.row_inputs, *spec.table_inputs]
    assert shapes["input_ids"] == ((1, 24), (8, 32), (10, 32))
    assert shapes[f"A.{site}"] == ((1, width, 8), (27, width, 8), (30, width, 64))
    assert shapes["weight.classifier"] == ((1, width, 8), (27, width, 8), (30, width, 32))
    around = len(backbone.tokenizer.encode([""])[0].ids)
    assert lengths_of(backbone, ["the " * words for words in range(100)]) == (50 + around, 64, 64)
    with pytest.raises(ExportError, match="there is no text"):
        lengths_of(backbone, [])


@pytest.mark.parametrize(
    ("width", "layers", "weights", "before", "most"), [(384, 6, 70e6, 2.7e9, 1e9), (768, 12, 267e6, 10.9e9, 2e9)]
)
def test_memory_of_a_plan_is_known_before_it_is_built(
    spec: BackboneSpec, width: int, layers: int, weights: float, before: float, most: float
) -> None:
    """MiniLM and BERT-base, adapters on all Linears. Triton keeps an input once, at its largest."""
    widths = [(width, width)] * 4 + [(width, 4 * width), (4 * width, width)]
    sites = [Site(name=f"{n}", d_in=d_in, d_out=d_out) for n, (d_in, d_out) in enumerate(widths * layers)]
    large = spec.model_copy(update={"sites": tuple(sites), "pooled_size": width, "max_tokens": 512})

    def memory(ranges: PlanRanges) -> Any:
        return plan_memory(large, [ranges.shapes(large, p) for p in ranges.profiles(large)], int(weights), 2)

    assert memory(PlanRanges(groups=1024)).inputs == pytest.approx(before, rel=0.01)
    assert sum(memory(PlanRanges())) < most


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


CAPABILITIES = ("8.0", "8.6", "8.9", "12.0", "12.1")


@needs_rtx
def test_a_plan_is_built_without_a_gpu_and_computes_as_its_graph_says(own_backbone: Backbone) -> None:
    repository, spec = own_backbone.folder.parents[1], own_backbone.spec
    ranges = PlanRanges(budget_tokens=128, groups=32, rank=8, lengths=(16,))
    with pytest.raises(ExportError, match=r"would take 0\.0 GB .* and 0\.0 GB are free: give lower --groups"):
        export_plan(repository, "float16", ranges, capabilities=["8.9"], free_bytes=1000)
    with pytest.raises(ExportError, match=r"'9\.9'; TensorRT for RTX builds for 7\.5, 8\.0"):
        export_plan(repository, "float16", ranges, capabilities=["9.9"])
    with pytest.raises(ExportError, match=r"Turing \(SM75\): FP32 GEMM is not supported"):  # the head's products
        export_plan(repository, "float16", ranges, capabilities=["7.5"])
    assert not (own_backbone.folder / PLAN).exists()
    made = export_plan(repository, "float16", ranges, capabilities=CAPABILITIES)
    assert made == PlanSpec.read(own_backbone.folder, spec.digest)
    assert made.capabilities == CAPABILITIES
    assert len(made.context_bytes) == 2 and 0 < sum(made.context_bytes) < made.memory_bytes
    assert (own_backbone.folder / PLAN).stat().st_size > 10_000
    text = (own_backbone.folder / PLAN_LAYERS).read_text()
    for name, shape in {**spec.row_inputs, **spec.table_inputs}.items():
        kind = "Int64" if name in spec.row_inputs else "Float"
        # There is one rank class and one of L_max, so these sizes are fixed.
        fixed = {"R": 8, "L_max": 8}
        dims = ",".join(str(fixed.get(n, -1)) if isinstance(n, str) else str(n) for n in shape)
        (line,) = (line for line in text.splitlines() if line.startswith(f" Name: {name}, IOMode: Input"))
        assert f"DataType: {kind}, Dimensions: [{dims}]" in line
        assert line.count("MinShape") == len(made.profiles) == 2
    products = [layer for layer in read_layers(text) if layer.is_product]
    # Of each profile's products the head's alone is in float32.
    assert sum(layer.in_float32 for layer in products) == len(made.profiles)
    assert sum(layer.gives == ("Half",) for layer in products) > 10 * len(made.profiles)


def test_an_unknown_precision_and_a_plan_of_another_backbone_are_refused(own_backbone: Backbone) -> None:
    repository = own_backbone.folder.parents[1]
    with pytest.raises(ExportError, match="precision is 'int4'"):
        export_plan(repository, "int4")
    with pytest.raises(BackboneError, match=r"backbone\.plan\.json is missing: run `scoremux export plan` first"):
        PlanSpec.read(own_backbone.folder, own_backbone.spec.digest)
    write_plan(own_backbone.folder, own_backbone.spec.model_copy(update={"digest": "a" * 64}))
    with pytest.raises(BackboneError, match="was built from backbone aaaaaaaaaaaa"):
        PlanSpec.read(own_backbone.folder, own_backbone.spec.digest)


def test_a_machine_without_a_gpu_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    command = tmp_path / "nvidia-smi"
    for script in ("", "#!/bin/sh\nexit 9\n"):  # missing, and broken
        if script:
            command.write_text(script)
            command.chmod(0o755)
        with pytest.raises(ExportError, match="this machine shows none"):
            gpu()
    command.write_text("#!/bin/sh\necho 9.0, 81000\necho 9.0, 500\n")
    assert gpu() == ("9.0", 81000 << 20)


@pytest.mark.parametrize("seed", range(50))
def test_every_place_gets_its_own_token_and_padding_its_rows_last(seed: int) -> None:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, draw.integers(2, 26), draw.integers(1, 21)).tolist()
    size = max(lengths) + int(draw.integers(10))
    mask = (np.arange(size) < np.array(lengths)[:, None]).astype(np.int64)
    feeds = packed_feeds(RowInputs(mask, mask, np.zeros(len(lengths), np.int64)))
    places = np.arange(mask.size).reshape(mask.shape)
    packed = places.ravel()[feeds[PACK]]
    assert len(packed) % STEP == len(feeds[FIRST]) % STEP == 0
    assert len(packed) - sum(lengths) < STEP
    expected = [[row[min(s, length - 1)] for s in range(size)] for row, length in zip(places, lengths, strict=True)]
    assert packed[feeds[UNPACK]].tolist() == expected
    assert packed[feeds[FIRST]][feeds[ROWS]].tolist() == places[:, 0].tolist()


def test_no_product_reads_padding_and_norms_have_constant_scales(backbone: Backbone) -> None:
    model = openvino.Core().read_model(backbone.onnx)
    assert pack_tokens(model, backbone.spec) >= {FIRST, PACK, ROWS, UNPACK}
    products = [op for op in model.get_ordered_ops() if op.get_type_name() == "MatMul" and _has_weight(op)]
    over_tokens = [op for op in products if len(op.get_input_partial_shape(0)) == 3]
    read = [_inputs_of(op) for op in over_tokens]
    # The last three: attention's output, and the two of the feed-forward block.
    assert read == [{PACK}] * (len(read) - 3) + [{FIRST}] * 3
    assert len(read) > 6
    assert quantised(backbone, norms=True) == {"q": True, "k": True, "v": True, "out": False, "up": True, "down": False}
    assert set(quantised(backbone, norms=False).values()) == {False}


def _has_weight(product: openvino.Node) -> bool:
    return bool(product.input_value(1).get_node().get_type_name() == "Constant")


def _inputs_of(node: openvino.Node) -> set[str]:
    """Return which of the packing's inputs a product reads, through what is computed token by token before it."""
    source = node.input_value(0).get_node()
    while source.get_type_name() not in ("Parameter", "Gather"):
        source = source.input_value(0).get_node()
    return set(source.input_value(1).get_names())


@pytest.mark.parametrize(
    ("repository", "kinds"),
    [("exported", ["Multiply"] * 2), ("mixed_repository", ["Multiply"]), ("decoder", ["Add"] * 2)],
    ids=["query and value", "key", "decoder"],
)
def test_largest_score_without_the_mask(repository: str, kinds: list[str], request: pytest.FixtureRequest) -> None:
    """A decoder's mask hides more than padding."""
    opened = Backbone.open(request.getfixturevalue(repository) / "backbone" / "1")
    model = openvino.Core().read_model(opened.onnx)
    pack_tokens(model, opened.spec)
    make_portable(model, opened.spec.max_tokens)
    largest = [op for op in model.get_ordered_ops() if op.get_type_name() == "ReduceMax"]
    assert [op.input_value(0).get_node().get_type_name() for op in largest] == kinds


@pytest.fixture
def decoder(exported_family: Callable[[str], Path]) -> Path:
    return exported_family("qwen3")


OPTIONS = precisions.options("float32")


def quantised(backbone: Backbone, *, norms: bool) -> dict[str, bool]:
    """Return for the first layer's products whether they have constant scales; all over tokens have int8 weights."""
    model = openvino.Core().read_model(backbone.onnx)
    ranges = RangeRunner(backbone).ranges(backbone) if norms else {}
    pack_tokens(model, backbone.spec)
    quantise(model, ranges)
    products = [op for op in model.get_ordered_ops() if op.get_type_name() == "MatMul"]
    assert not [op for op in products if len(op.get_input_partial_shape(0)) == 3 and kind(op, 1) == "Constant"]
    of_tokens = [
        op for op in products if kind(op, 1) == "Multiply" and kind(op.input_value(1).get_node(), 0) == "Convert"
    ]
    assert len(of_tokens) == 12
    assert {
        str(op.input_value(1).get_node().input_value(0).get_node().get_input_element_type(0)) for op in of_tokens
    } == {"<Type: 'int8_t'>"}
    names = ("q", "k", "v", "out", "up", "down")
    return {name: kind(op, 0) == "FakeQuantize" for name, op in zip(names, of_tokens, strict=False)}


def kind(node: Any, place: int) -> str:
    return str(node.input_value(place).get_node().get_type_name())


def test_ranges_are_the_same_whenever_they_are_measured(backbone: Backbone) -> None:
    def measured() -> list[Any]:
        return list(RangeRunner(backbone).ranges(backbone).values())

    assert len(measured()) == 5
    assert all((columns > 0).all() for columns in measured())
    assert [columns.tobytes() for columns in measured()] == [columns.tobytes() for columns in measured()]


def test_values_are_rounded_to_the_nearest_step_and_a_weight_is_off_by_half_of_one() -> None:
    values = np.linspace(-3, 3, 1_001, dtype=np.float32)
    got = compute(lambda x: rounded(x, 2.0), values)
    steps = np.clip(values / 2 * 127, -128, 127)
    assert np.abs(got / 2 * 127 - steps).max() <= 0.5 + 1e-3
    assert len(np.unique(got)) == 256
    draw = np.random.default_rng(3)
    rows = (draw.normal(0, 1, (40, 24)) * 10.0 ** draw.integers(-6, 6, (40, 1))).astype(np.float32)
    rows[7] = 0
    got = compute(lambda x: ops.add(x, int8_constant(rows)), np.zeros(1, np.float32))
    assert (np.abs(got - rows) <= np.abs(rows).max(axis=1, keepdims=True) / 127 * 0.501).all()


def compute(graph: Any, values: Any) -> Any:
    given = ops.parameter([-1], np.float32)
    model = openvino.Model([graph(given)], [given], "graph")
    return openvino.Core().compile_model(model, "CPU", OPTIONS)([values])[0]


@pytest.mark.parametrize(("step", "exact"), [("AVX512_CORE", "False"), ("AVX512_CORE_VNNI", "True")])
def test_without_vnni_sums_are_found_to_be_cut(step: str, exact: str) -> None:
    if "avx512_vnni" not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        pytest.skip("this processor has no AVX-512 with VNNI to switch off")
    code = "from scoremux_engine.runners.precisions import adds_int8_exactly as exact; print(exact())"
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": step}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == exact


READERS = {"Gather", "ShapeOf"}
"""Layers that read the rows they need, or none; any other takes all slots at every run."""


@pytest.mark.parametrize("precision", computed_precisions())
def test_no_layer_takes_a_whole_table(exported_family: Callable[[str], Path], precision: str) -> None:
    backbone = Backbone.open(exported_family("bert") / "backbone" / "1")
    graph = OpenVinoRunner(backbone, precision)._side_by_side.get_runtime_model()
    tables = {op.get_friendly_name(): op for op in graph.get_parameters()}
    assert set(backbone.spec.table_inputs) <= set(tables)
    for name in backbone.spec.table_inputs:
        readers = [target.get_node() for output in tables[name].outputs() for target in output.get_target_inputs()]
        assert {reader.get_rt_info()["layerType"].value for reader in readers} <= READERS, name


BEGIN = """
import sys
from pathlib import Path

import numpy as np

import psutil
from making import random_tables
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners import openvino
from scoremux_engine.runners.runner import RowInputs

backbone = Backbone.open(Path(sys.argv[1]))
tables = random_tables(backbone.spec, groups=2)
def inputs(rows, tokens):
    ones = np.ones((rows, tokens), np.int64)
    return RowInputs(ones, ones, np.zeros(rows, np.int64), np.zeros_like(ones))
def run(rows, tokens):
    bits = runner.run(inputs(rows, tokens), tables).logits.tobytes()
    return bits, psutil.Process().memory_info().rss
"""
SHAPES = f"""{BEGIN}
runner = openvino.OpenVinoRunner(backbone, sys.argv[2], threads=1)
shapes = [(rows, tokens) for rows in range(1, 33) for tokens in range(8, 65, 2)]
print(psutil.Process().memory_info().rss, *([run(*shape) for shape in shapes[part::3]][-1][1] for part in range(3)))
"""


@pytest.mark.nightly
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_memory_stops_growing_with_the_shapes_seen(exported: Path, precision: str) -> None:
    if precision not in computed_precisions():
        pytest.skip(f"this processor does not compute in {precision}")
    command = [sys.executable, "-c", SHAPES, str(exported / "backbone" / "1"), precision]
    run = subprocess.run(command, cwd=ROOT / "tests" / "support", stdout=subprocess.PIPE, text=True, check=True)
    start, first, second, third = map(int, run.stdout.split())
    if first - start < 50e6:
        pytest.skip("shapes cost nothing on this processor")
    assert third - first < 0.5 * (first - start), [start, first, second, third]


LARGE = f"""{BEGIN}
runner = openvino.OpenVinoRunner(backbone, threads=1)
first, start = run(1, 8)
_, large = run(2048, 64)
_, kept = run(1, 8)
openvino._GIVEN_BACK_S = 0.0
again, given_back = run(1, 8)
print(start, large, kept, given_back, int(first == again))
"""


def test_memory_of_large_micro_batches_is_given_back_some_time_after_the_last(exported: Path) -> None:
    command = [sys.executable, "-c", LARGE, str(exported / "backbone" / "1")]
    run = subprocess.run(command, cwd=ROOT / "tests" / "support", stdout=subprocess.PIPE, text=True, check=True)
    start, large, kept, given_back, same = map(int, run.stdout.split())
    assert large - start > 50e6 and kept - start > 0.5 * (large - start)
    assert same and given_back - start < 0.5 * (large - start), [start, large, kept, given_back]


LITTLE = f"""{BEGIN}
import resource
runner = openvino.OpenVinoRunner(backbone, threads=1)
run(1, 8)
large = inputs(2048, 64)
limit = psutil.Process().memory_info().vms + (int(sys.argv[2]) << 10)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
runner.run(large, tables)
"""


@pytest.mark.parametrize("left_kib", [256, 1024, 4096])
def test_a_micro_batch_that_finds_no_memory_says_so_and_what_to_do(exported: Path, left_kib: int) -> None:
    command = [sys.executable, "-c", LITTLE, str(exported / "backbone" / "1"), str(left_kib)]
    ended = subprocess.run(command, cwd=ROOT / "tests" / "support", capture_output=True, text=True)
    assert re.search(r"RunnerError: .*(allocate \d|short;).*memory.*--set threads=1$", ended.stderr.strip())


ONE, NEXT = np.float32([1.0]), np.nextafter(np.float32([1.0]), np.float32(2))


class Ways:
    """Computes a row here or on a stream, and notes which."""

    def __init__(self, here: Floats) -> None:
        self._here = here
        self.taken: list[str] = []

    def here(self, _request: object) -> Sequence[Floats]:
        self.taken.append("here")
        return [self._here]

    def on_a_stream(self) -> Sequence[Floats]:
        self.taken.append("stream")
        return [ONE]


def ready(make: Callable[[], str]) -> BesideStreams[str]:
    cores = BesideStreams(make)
    assert cores.run("first", Ways(ONE).here, Ways(ONE).on_a_stream) == [ONE]
    cores._request.exception()
    return cores


def test_eight_rows_of_a_shape_are_compared_and_with_equal_bits_computed_on_all_cores() -> None:
    cores, ways = ready(lambda: "made"), Ways(ONE)
    assert [cores.run("short", ways.here, ways.on_a_stream) for _ in range(10)] == [[ONE]] * 10
    assert ways.taken == ["stream", "here"] * 8 + ["here"] * 2
    other = Ways(NEXT)
    cores.run("long", ways.here, ways.on_a_stream)
    assert [cores.run("long", other.here, other.on_a_stream) for _ in range(3)] == [[ONE]] * 3
    assert other.taken == ["stream", "here", "stream", "stream"], "the second row had other bits"
    cores, ways = ready(lambda: "made"), Ways(NEXT)
    assert [cores.run("short", ways.here, ways.on_a_stream) for _ in range(3)] == [[ONE]] * 3
    assert ways.taken == ["stream", "here", "stream", "stream"]

    def fail() -> str:
        raise RuntimeError("no memory")

    cores, ways = ready(fail), Ways(ONE)
    assert cores.run("short", ways.here, ways.on_a_stream) == [ONE]
    assert ways.taken == ["stream"]


@pytest.mark.parametrize("precision", computed_precisions())
def test_a_row_alone_has_the_bits_of_a_row_in_company(backbone: Backbone, precision: str) -> None:
    runner = OpenVinoRunner(backbone, precision, threads=4, streams=4)
    assert runner.streams > 1
    runner._all_cores.run("first", lambda _: [], lambda: [])
    runner._all_cores._request.result()
    draw = np.random.default_rng(5)
    for rank, tokens in product((8, 16, 64), (8, 16, 40, 64)):
        tables = random_tables(backbone.spec, groups=3, rank=rank)
        ids = draw.integers(5, 90, (1, tokens))
        mask = (np.arange(tokens) < tokens - draw.integers(0, 8)).astype(np.int64)[None]
        row = RowInputs(ids, mask, np.array([1]), np.zeros_like(ids))
        expected = runner.run(row, tables, pooled=True)
        for _ in range(10):
            alone = runner.run(replace(row, alone=True), tables, pooled=True)
            assert alone.logits.tobytes() == expected.logits.tobytes()
            assert alone.pooled is not None and expected.pooled is not None
            assert alone.pooled.tobytes() == expected.pooled.tobytes()


@pytest.mark.parametrize("precision", computed_precisions())
def test_a_lone_row_waits_for_no_stream_and_has_its_bits(backbone: Backbone, precision: str) -> None:
    runner = OpenVinoRunner(backbone, precision, threads=2, streams=2)
    draw = np.random.default_rng(6)
    tables = random_tables(backbone.spec, groups=3, rank=8)
    ids = {tokens: draw.integers(5, 90, (1, tokens)) for tokens in (8, 16, 40, 64)}
    rows = [RowInputs(some, np.ones_like(some), np.array([1]), np.zeros_like(some)) for some in ids.values()]
    expected = [runner.run(row, tables, pooled=True) for row in rows]
    runner._extra_stream.run("any", lambda _: [], lambda: [])
    runner._extra_stream._request.result()
    for _ in range(8):
        runner._extra_stream.run("any", lambda _: [ONE], lambda: [ONE])
    busy = [runner._idle.get() for _ in range(runner.streams)]
    for row, out in zip(rows, expected, strict=True):
        alone = runner.run(replace(row, alone=True), tables, pooled=True)
        assert alone.pooled is not None and out.pooled is not None
        assert (alone.logits.tobytes(), alone.pooled.tobytes()) == (out.logits.tobytes(), out.pooled.tobytes())
    assert len(busy) == runner.streams
