"""The runner for plans without a GPU: the device is host memory, and what executes the plan is ONNX Runtime."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from making import TASKS, make_adapter, write_plan
from scoremux_engine.engine import Engine
from scoremux_engine.errors import RunnerError
from scoremux_engine.model import backbone as names
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.choose import REFERENCE, RunnerChoice
from scoremux_engine.runners.tensorrt import TensorRtRunner
from scoremux_engine.store.store import Store
from scoremux_export.plans.build_plan import PlanRanges

TEXTS = ["it hands out addresses", "the router", "", "window flow control " * 6]


class HostDevice:
    """A device that is host memory. uploaded: bytes copied to it."""

    stream = 7

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.uploaded = 0

    def allocate(self, size: int) -> int:
        block = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def free(self, address: int) -> None:
        del self.memory[address]

    def upload(self, address: int, array: np.ndarray) -> None:
        self.uploaded += array.nbytes
        ctypes.memmove(address, np.ascontiguousarray(array).ctypes.data, array.nbytes)

    def download(self, address: int, array: np.ndarray) -> None:
        ctypes.memmove(array.ctypes.data, address, array.nbytes)


class HostContext:
    """What TensorRT's execution context does, by ONNX Runtime on addresses; it refuses shapes outside the profile."""

    def __init__(self, backbone: Backbone, ranges: PlanRanges) -> None:
        spec = backbone.spec
        self._session = onnxruntime.InferenceSession(str(backbone.onnx))
        self._shapes_of = [ranges.shapes(spec, profile) for profile in ranges.profiles(spec)]
        self._profile = -1
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, number: int, stream: int) -> bool:
        self._profile = number
        return stream == HostDevice.stream

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        smallest, _, largest = self._shapes_of[self._profile][name]
        self._shapes[name] = shape
        return all(a <= n <= b for a, n, b in zip(smallest, shape, largest, strict=True))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        feeds = {}
        for name, shape in self._shapes.items():
            dtype = np.float32 if "." in name else np.int64
            content = ctypes.string_at(self._addresses[name], int(np.prod(shape)) * np.dtype(dtype).itemsize)
            feeds[name] = np.frombuffer(content, dtype).reshape(shape)
        for name, array in zip(
            (names.LOGITS, names.POOLED), self._session.run([names.LOGITS, names.POOLED], feeds), strict=True
        ):
            ctypes.memmove(self._addresses[name], np.ascontiguousarray(array).ctypes.data, array.nbytes)
        return stream == HostDevice.stream


class Place:
    """A repository with the description of a plan, and an engine with the runner on a host device."""

    def __init__(self, repository: Path, groups: int = 8) -> None:
        self.backbone = Backbone.open(repository / "backbone" / "1")
        write_plan(self.backbone.folder, self.backbone.spec, "tensorrt-rtx", groups, levels=32)
        self.device = HostDevice()
        context = HostContext(self.backbone, PlanRanges(groups=groups, levels=32))
        self.store = Store(repository / "store")
        self.runner = TensorRtRunner(self.backbone, context=context, device=self.device)
        self.engine = Engine(self.backbone, self.store, self.runner)
        self.reference = Engine.open(repository, runner=REFERENCE)

    def compare(self, texts: list[str], tasks: list[str]) -> None:
        got, expected = (e.logits(texts, tasks) for e in (self.engine, self.reference))
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_rows_of_all_tasks_and_lengths_get_the_reference_logits(own_repository: Path) -> None:
    place = Place(own_repository)
    texts, tasks = zip(*((text, task) for text in TEXTS for task in TASKS), strict=True)
    place.compare(list(texts), list(tasks))
    assert place.engine.precision == "float16"
    embedded = place.engine.embed(TEXTS, ["t-1"] * len(TEXTS))
    np.testing.assert_allclose(embedded, place.reference.embed(TEXTS, ["t-1"] * len(TEXTS)), atol=1e-5)


def test_tables_are_copied_once_and_again_when_a_version_is_published(own_repository: Path, tmp_path: Path) -> None:
    place = Place(own_repository)
    place.compare(TEXTS, list(TASKS))
    before = place.device.uploaded
    place.compare(TEXTS, list(TASKS))
    tokens_alone = place.device.uploaded - before
    assert tokens_alone < 10_000
    adapter = make_adapter(tmp_path / "t-2", place.backbone.spec, "t-2", rank=8, levels=3, seed=99)
    place.store.add([adapter], place.backbone)
    before = place.device.uploaded
    for _ in range(2):
        place.compare(TEXTS, ["t-1", "t-2", "t-2", "t-4"])
    assert place.device.uploaded - before > 2 * tokens_alone


def test_versions_that_were_not_used_for_long_make_way(own_repository: Path) -> None:
    place = Place(own_repository, groups=2)
    for tasks in (["t-1", "t-2"], ["t-3", "t-1"], ["t-2", "t-2"], ["t-1", "t-3"]):
        place.compare(TEXTS[:2], tasks)
    with pytest.raises(RunnerError, match="3 tasks in one micro-batch"):
        place.engine.logits(["the router"] * 3, ["t-1", "t-2", "t-3"])


def test_a_micro_batch_beyond_the_plan_is_refused_by_name(own_repository: Path, tmp_path: Path) -> None:
    place = Place(own_repository)
    place.store.add(
        [make_adapter(tmp_path / "big", place.backbone.spec, "big", rank=17, levels=2, seed=1)], place.backbone
    )
    with pytest.raises(RunnerError, match=r"no profile for 8 tokens and rank class 64; .*--rank 64"):
        place.engine.logits(["the router"], ["big"])
    place.engine.queue.budget_tokens = 1 << 20
    with pytest.raises(RunnerError, match="takes 256 rows of 8 tokens at once, not 300"):
        place.engine.logits(["the router"] * 300, ["t-1"] * 300)


def test_a_missing_plan_and_a_missing_gpu_are_named(own_repository: Path) -> None:
    choice, backbone = RunnerChoice("tensorrt"), Backbone.open(own_repository / "backbone" / "1")
    with pytest.raises(RunnerError, match=r"there is no .*backbone\.plan\.json: run `scoremux export plan` first"):
        choice.make(backbone)
    Place(own_repository)
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a GPU")
    with pytest.raises(RunnerError, match=r"cuda-bindings|cudaStreamCreate failed: cudaError"):
        choice.make(backbone)
