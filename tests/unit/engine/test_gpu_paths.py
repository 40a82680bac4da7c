"""What a GPU would meet, proven without one: outputs in CPU memory, float32 without TF32, kernels that compile."""

import importlib
import multiprocessing
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import triton
from google.protobuf import text_format
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from tritonclient.grpc.model_config_pb2 import ModelConfig

from benchmarks.gpu import _grouped_kernel
from making import write_plan
from scoremux_engine import Engine
from scoremux_engine.errors import RunnerError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.tables import Tables
from scoremux_engine.runners.choose import REFERENCE, RunnerChoice
from scoremux_engine.runners.onnxruntime import OnnxRuntimeRunner
from scoremux_engine.runners.runner import Outputs, RowInputs
from scoremux_engine.store.store import Store
from scoremux_server.triton import repository


class OnGpu:
    """Triton's answer to a request of another model, as it is where that model computes on a GPU."""

    def __init__(self, preferred_memory: Any = None, **_: Any) -> None:
        self._on_cpu = preferred_memory == ("cpu", 0)

    def exec(self) -> "OnGpu":
        return self

    def has_error(self) -> bool:
        return False

    def as_numpy(self) -> Any:
        if not self._on_cpu:
            raise RuntimeError("Tensor is stored in GPU and cannot be converted to NumPy.")
        return np.ones((1, 2), np.float32)


@pytest.fixture
def scorer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Import the scorer with a Triton whose models compute on a GPU."""
    name, utils = "scoremux_engine.backend.scorer", ModuleType("triton_python_backend_utils")
    vars(utils).update(
        Tensor=lambda *_: None,
        InferenceRequest=OnGpu,
        PreferredMemory=lambda kind, device: (kind, device),
        TRITONSERVER_MEMORY_CPU="cpu",
        get_output_tensor_by_name=lambda response, _: response,
    )
    monkeypatch.setitem(sys.modules, utils.__name__, utils)
    monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module(name)
    sys.modules.pop(name, None)


def test_outputs_of_the_model_backbone_are_asked_for_in_cpu_memory(scorer: Any) -> None:
    (logits,) = scorer._call_backbone("backbone", {}, ["logits"])
    assert logits.tolist() == [[1, 1]]


@pytest.mark.parametrize(("precision", "tf32"), [("float32", "0"), ("tf32", "1")])
def test_runners_float32_is_no_tf32(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, precision: str, tf32: str
) -> None:
    asked = []

    def session(_graph: str, _options: Any, providers: Any) -> Any:
        asked.extend(providers)
        return SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with pytest.raises(RunnerError, match="CUDAExecutionProvider did not start"):
        RunnerChoice("onnxruntime", "cuda", precision).make(backbone)
    assert asked == [("CUDAExecutionProvider", {"use_tf32": tf32})]


@pytest.mark.parametrize("gpu", [False, True])
def test_tritons_float32_is_no_tf32(
    small_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool
) -> None:
    monkeypatch.setattr(repository, "has_gpu", lambda: gpu)
    repository.assemble(tmp_path, small_repository, small_repository / "store", backend="onnxruntime")
    written = (tmp_path / "backbone" / "config.pbtxt").read_text(encoding="utf-8")
    config = text_format.Parse(written, ModelConfig())
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert [(a.name, dict(a.parameters)) for a in accelerators] == [("cuda", {"use_tf32": "0"})] * gpu


@pytest.fixture(scope="module")
def compiling() -> Iterator[Executor]:
    """A process that compiles: LLVM takes signals over, so that a file over its limit would end pytest's process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def compiled_kernel(capability: int, kind: str) -> str:
    """Return the PTX of the benchmark's kernel, with pointers to `kind`."""
    sizes = {"ADD": True, "S": 32, "K": 64, "N": 64}
    pointers = {"x": f"*{kind}", "table": f"*{kind}", "group": "*i64", "out": f"*{kind}"}
    signature = {**pointers, "tokens": "i32", "d_in": "i32", "d_out": "i32", **dict.fromkeys(sizes, "constexpr")}
    source = ASTSource(_grouped_kernel, signature=signature, constexprs=sizes)
    return str(triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["ptx"])


@pytest.mark.parametrize("capability", [80, 89, 90, 100])
@pytest.mark.parametrize("kind", ["fp32", "fp16", "bf16"])
def test_the_kernel_of_the_benchmark_compiles_for_gpus(compiling: Executor, capability: int, kind: str) -> None:
    assert f".target sm_{capability}" in compiling.submit(compiled_kernel, capability, kind).result()


def test_micro_batches_of_more_rows_than_a_plan_takes_are_split(mixed_repository: Path) -> None:
    class Few(OnnxRuntimeRunner):
        most_rows, calls = 2, list[int]()

        def run(self, rows: RowInputs, tables: Tables, *, pooled: bool = False) -> Outputs:
            self.calls.append(len(rows.group))
            return super().run(rows, tables, pooled=pooled)

    backbone = Backbone.open(mixed_repository / "backbone" / "1")
    runner = Few(backbone, threads=1)
    runner.in_place = False
    engine = Engine(backbone, Store(mixed_repository / "store"), runner)
    engine.bank.describe()
    tasks = engine.bank.tasks * 3
    texts = [f"host {'sends ' * (number % 7)}" for number in range(len(tasks))]
    expected = Engine.open(mixed_repository, runner=REFERENCE)
    runner.calls.clear()
    assert engine.logits(texts, tasks).tobytes() == expected.logits(texts, tasks).tobytes()
    assert engine.embed(texts, tasks).tobytes() == expected.embed(texts, tasks).tobytes()
    assert max(runner.calls) == 2


def test_a_plans_contexts_have_memory_for_their_own_profiles(small_repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    shutil.copytree(small_repository, folder)
    write_plan(folder / "backbone" / "1", Backbone.open(folder / "backbone" / "1").spec)
    repository.assemble(tmp_path / "models", folder, folder / "store", backend="tensorrt")
    configs = [
        text_format.Parse((tmp_path / "models" / name / "config.pbtxt").read_text(encoding="utf-8"), ModelConfig())
        for name in ("backbone", "scorer")
    ]
    strategy = configs[0].parameters["execution_context_allocation_strategy"].string_value
    assert (strategy, configs[1].parameters["groups"].string_value) == ("ON_PROFILE_CHANGE", "8")
