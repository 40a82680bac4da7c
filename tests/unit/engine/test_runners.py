"""Which runner is made, how it shares out cores, what its arithmetic is called, and segments of one group's tokens."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import pytest
from openvino import opset13 as ops

from scoremux_engine.errors import RunnerError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.provenance import library_arithmetic, processor_name
from scoremux_engine.model.tables import Tables
from scoremux_engine.runners import portable_math, precisions
from scoremux_engine.runners.arithmetic import name_of, probe_digest, read_record
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_engine.runners.openvino import OpenVinoRunner, _Request
from scoremux_engine.runners.runner import Streams, available_cores
from scoremux_engine.runners.segments import STEP, Segments
from scoremux_server.triton.installation import Installation


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        (RunnerChoice("pytorch"), "'pytorch'; there are onnxruntime, openvino"),
        (RunnerChoice("openvino", precision="int4"), "precision is 'int4'"),
        (RunnerChoice("onnxruntime", precision="int8"), "float32 only on the cpu, not in int8"),
    ],
)
def test_an_unknown_runner_or_precision_is_refused(backbone: Backbone, choice: RunnerChoice, sentence: str) -> None:
    with pytest.raises(RunnerError, match=sentence):
        choice.make(backbone)


def test_float32_is_computed_everywhere_and_what_a_processor_does_not_compute_is_refused() -> None:
    assert precisions.is_computed("float32")
    with pytest.raises(RunnerError, match=r"does not compute in int8; it computes in float32, bfloat16$"):
        precisions.check("int8", lambda precision: precision != "int8")


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_hardware_that_is_absent_is_said_and_never_replaced(backbone: Backbone, device: str) -> None:
    if len(onnxruntime.get_available_providers()) > 2:
        pytest.skip("this onnxruntime has GPU providers")
    with pytest.raises(RunnerError, match=r"ExecutionProvider; .*pip install 'scoremux\[gpu\]'"):
        RunnerChoice("onnxruntime", device=device).make(backbone)


class IdleRequest:
    """A request of OpenVINO that returns without an error and without computing, as where memory is short."""

    def __init__(self, failure: str = "") -> None:
        self.outputs = {"logits": openvino.Tensor(np.ones((2, 3), np.float32))}
        self.failure = failure

    def get_tensor(self, name: str) -> openvino.Tensor:
        return self.outputs[name]

    def infer(self, *_: Any, **__: Any) -> dict[str, Any]:
        if self.failure:
            raise RuntimeError(self.failure)
        return {name: tensor.data for name, tensor in self.outputs.items()}


@pytest.mark.parametrize("rows", [2, 1])
def test_outputs_of_the_run_before_are_never_taken_for_those_of_this_one(rows: int) -> None:
    request = _Request(IdleRequest(), {})
    with pytest.raises(RunnerError, match=r"computed nothing and gave no error, .* more memory, .* --set threads=1"):
        request.infer(Tables({}), {"group": np.zeros(rows, np.int64)}, ["logits"])


def test_error_of_little_memory_is_openvinos_line_about_it_and_the_remedy() -> None:
    failure = "Exception from infer_request.cpp:224:\nCheck failed at cpu_memory.cpp:257:\nstd::bad_alloc\nat node 7\n"
    with pytest.raises(RunnerError) as error:
        _Request(IdleRequest(failure), {}).infer(Tables({}), {"group": np.zeros(2, np.int64)}, ["logits"])
    assert str(error.value).startswith("OpenVINO cannot compute a micro-batch: std::bad_alloc; give the server more")


CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("threads", "streams", "shared"),
    [(8, None, Streams(8, 1)), (8, 1, Streams(1, 8)), (8, 3, Streams(3, 2)), (1, None, Streams(1, 1))],
)
def test_threads_are_shared_out_among_streams(threads: int, streams: int | None, shared: Streams) -> None:
    assert Streams.of(threads, streams) == shared
    with pytest.raises(RunnerError, match=f"streams is 9, but there are {threads} threads"):
        Streams.of(threads, 9)


QUOTAS = {"max 100000": CORES, "100000 100000": 1, "50000 100000": 1, "100000000 100000": CORES, "?": CORES}


def test_a_control_groups_quota_bounds_the_cores(tmp_path: Path) -> None:
    assert available_cores(tmp_path / "absent") == CORES
    for text, cores in QUOTAS.items():
        (tmp_path / "cpu.max").write_text(text)
        assert available_cores(tmp_path / "cpu.max") == cores


PROGRAM = """
import os, sys, time
from pathlib import Path
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.onnxruntime import OnnxRuntimeRunner
OnnxRuntimeRunner(Backbone.open(Path(sys.argv[1])))
time.sleep(1)
files = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
print([link for file in files if os.path.islink(file) and (link := os.readlink(file)).startswith("socket")])
"""


def test_the_runner_opens_no_connection_and_writes_no_session(small_repository: Path, tmp_path: Path) -> None:
    assert Installation.find().environment({})["ORT_DISABLE_TELEMETRY"] == "1"  # of Triton's backends
    variables = {**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    variables.pop("ORT_DISABLE_TELEMETRY", None)
    command = [sys.executable, "-c", PROGRAM, str(small_repository / "backbone" / "1")]
    ran = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=240, check=True)
    assert ran.stdout == "[]\n"
    assert list(tmp_path.iterdir()) == []


CPUINFO = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: {name}\n\nprocessor\t: 1\n"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("AMD EPYC", "AMD EPYC (family 25, model 17)"),
        ("AMD EPYC 9654 96-Core Processor", "AMD EPYC 9654 96-Core Processor"),
    ],
)
def test_name_gets_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, shown: str) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    (tmp_path / "cpuinfo").write_text(CPUINFO.format(name=name))
    assert processor_name(tmp_path / "cpuinfo") == shown
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert processor_name(tmp_path / "cpuinfo") == f"{shown} (oneDNN limited to AVX2)"


@pytest.mark.parametrize(("flags", "place"), [("avx2 avx_vnni", "avx2"), ("avx2 avx512bw", "avx512")])
def test_arithmetic_is_named_by_library_precision_and_instruction_set(tmp_path: Path, flags: str, place: str) -> None:
    (info := tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    assert library_arithmetic("openvino", "int8", "cpu", info) == f"openvino-{place}-int8"
    assert library_arithmetic("onnxruntime", "float32", "cpu", info) == f"onnxruntime-{place}-f32"


def test_arithmetic_of_a_gpu_has_its_model(tmp_path: Path) -> None:
    assert library_arithmetic("tensorrt", "float16", "cuda", gpus=tmp_path) == "tensorrt-cuda-float16"
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ: 1\n")
    name = library_arithmetic("tensorrt", "float16", "cuda", gpus=tmp_path)
    assert name == "tensorrt-nvidia-h100-80gb-hbm3-float16"


def own_softmax(node: Any, _masks: object) -> None:
    """Leave OpenVINO's own in place."""


def own_norm(node: Any) -> Any:
    return ops.mvn(node.input_value(0), ops.constant([-1], np.int64), True, node.get_attributes()["eps"], "inside_sqrt")


def own_mean(x: Any) -> Any:
    return ops.reduce_mean(x, ops.constant([-1], np.int64), keep_dims=True)


def own_gelu(x: Any) -> Any:
    return ops.gelu(x, "erf")


def float32_digest() -> str:
    return probe_digest(lambda backbone: OpenVinoRunner(backbone, "float32", threads=1, streams=1))


def test_probe_sees_each_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = float32_digest()
    parts = {"_gelu": own_gelu, "_replace_softmax": own_softmax, "_normalised": own_norm, "_mean": own_mean}
    if name_of("x86-f32", digest) == "x86-f32":  # another processor may add in blocks of 256 itself
        parts["PIECE"] = 256  # as where the L2 cache has 256 KiB
    for part, other in parts.items():
        with monkeypatch.context() as changed:
            changed.setattr(portable_math, part, other)
            assert float32_digest() != digest, part
    assert float32_digest() == digest


def test_an_unknown_digest_cannot_share_a_name() -> None:
    recorded = read_record().arithmetics
    assert len({a.name for a in recorded}) == len({a.digest for a in recorded}) == len(recorded)
    for known in recorded:
        assert name_of("x86-f32", known.digest) == known.name
    assert name_of("x86-f32", "3fa1c2" + "0" * 58) == "x86-f32-3fa1c2"
    assert "x86-f32" in {a.name for a in recorded}


@pytest.mark.parametrize("seed", range(40))
def test_each_place_has_a_token_of_its_segments_group(seed: int) -> None:
    draw = np.random.default_rng(seed)
    group = draw.integers(0, draw.integers(1, 30), draw.integers(1, 1500))
    segments = Segments.of(group)
    assert segments.tokens.ravel()[segments.places].tolist() == list(range(len(group)))
    assert (group[segments.tokens] == segments.group[:, None]).all()
    assert segments.tokens.shape[1] % STEP == 0
    assert {array.dtype for array in vars(segments).values()} == {np.dtype(np.int32)}


def test_tokens_of_one_group_are_one_segment_and_those_of_many_fill_theirs() -> None:
    assert Segments.of(np.zeros(1000, np.int64)).tokens.shape == (1, 1000)
    assert Segments.of(np.zeros(3, np.int64)).tokens.shape == (1, STEP)
    assert Segments.of(np.repeat([0, 1], [400, 400])).tokens.shape == (2, 400)
    many = Segments.of(np.repeat(np.arange(20), 21))
    assert many.tokens.shape == (20, 24)
    assert Segments.of(np.repeat(np.arange(11), [1000, *[8] * 10])).tokens.size <= 1600
