"""The runner for a TensorRT plan: `backbone.plan`, in this process, on the first GPU.

**Never run on a GPU.** Its logic is tested with a device that is host memory and a plan that is ONNX Runtime; plans
themselves are built and inspected in the tests. Run `scoremux selftest` before you trust it.
"""

from __future__ import annotations

import importlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from scoremux_engine.errors import BackboneError, RunnerError
from scoremux_engine.model import backbone as names
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.plan import MODULES, PLAN, PlanSpec
from scoremux_engine.model.provenance import library_arithmetic
from scoremux_engine.model.tables import DTypes, Tables
from scoremux_engine.runners.runner import Floats, Ints, Outputs, RowInputs

Array = npt.NDArray[Any]


class Device(Protocol):
    """A GPU's memory and one stream of work on it. Addresses are plain numbers, as TensorRT takes them."""

    stream: int

    def allocate(self, size: int) -> int:
        """Return the address of `size` new bytes. Raises RunnerError where there is no room."""

    def free(self, address: int) -> None:
        """Give back what `allocate` returned."""

    def upload(self, address: int, array: Array) -> None:
        """Copy a contiguous array to an address, after the work that was given to the stream before."""

    def download(self, address: int, array: Array) -> None:
        """Copy from an address into a contiguous array, and wait until the stream's work and the copy are done."""


class TensorRtRunner:
    """Runs the plan that `scoremux export plan` built, in the precision of the plan.

    Tables stay on the device: a version is copied there when a row needs it first, and `group` picks it there. Of each
    size class the plan's `groups` versions have room; those used least recently make way.

    context: executes the plan, as TensorRT's `IExecutionContext`; device: where. Both are made from what is installed
    unless given.
    """

    overlap = streams = 1
    in_place = True
    express = False
    anytime = True

    def __init__(self, backbone: Backbone, *, context: Any = None, device: Device | None = None) -> None:
        try:
            self._plan = PlanSpec.read(backbone.folder, backbone.spec.digest)
        except BackboneError as error:
            raise RunnerError(str(error)) from error
        self.precision = self._plan.precision
        self.arithmetic = library_arithmetic(self._plan.runtime, self.precision, "cuda")
        self.dtypes: DTypes = {}
        self._spec = backbone.spec
        self._device = device or CudaDevice()
        self._context = context or _open_context(backbone, self._plan)
        self._profile = -1
        self._lock = threading.Lock()  # there is one context, with one stream
        self._buffers: dict[str, _Buffer] = {}
        self._resident: dict[tuple[tuple[int, ...], ...], _ResidentTables] = {}

    def run(self, rows: RowInputs, tables: Tables, *, pooled: bool = False) -> Outputs:
        """See `BackboneRunner.run`."""
        return Outputs(*self._infer(rows, tables, (names.LOGITS, names.POOLED)[: 1 + pooled]))

    def keys_and_values(self, rows: RowInputs, tables: Tables) -> dict[str, Floats]:
        """See `BackboneRunner.keys_and_values`."""
        kept = self._spec.kept
        return dict(zip(kept, self._infer(rows, tables, tuple(kept.values())), strict=True))

    def _infer(self, rows: RowInputs, tables: Tables, names_out: Sequence[str]) -> list[Floats]:
        with self._lock:
            return self._infer_alone(rows, tables, names_out)

    def _infer_alone(self, rows: RowInputs, tables: Tables, names_out: Sequence[str]) -> list[Floats]:
        """Return the outputs of these names; the plan computes all of them."""
        count, tokens = rows.input_ids.shape
        self._use_profile(count, tokens, self._rank(tables))
        resident = self._resident_for(tables)
        feeds = {**rows.feeds, names.GROUP: resident.place(tables, rows.group)}
        for name, ids in feeds.items():
            self._set_input(name, ids)
        for name, address in resident.addresses.items():
            self._bind(name, address, resident.shapes[name])
        levels = tables.arrays[names.head_inputs(self._spec.head[-1].name)[1]].shape[1]
        sizes = {"B": count, "S": tokens, "L_max": levels}
        outputs = {
            name: np.empty([sizes[n] if isinstance(n, str) else n for n in shape], np.float32)
            for name, shape in self._spec.outputs.items()
        }
        for name, array in outputs.items():
            self._checked(self._context.set_tensor_address(name, self._buffer(name).fit(array.nbytes)), name)
        self._checked(self._context.execute_async_v3(self._device.stream), "the plan")
        for name in names_out:
            self._device.download(self._buffer(name).address, outputs[name])
        return [outputs[name] for name in names_out]

    def _rank(self, tables: Tables) -> int:
        return int(tables.arrays[names.site_inputs(self._spec.sites[0].name)[0]].shape[2])

    def _use_profile(self, rows: int, tokens: int, rank: int) -> None:
        try:
            number = self._plan.profile(tokens, rank)
        except BackboneError as error:
            raise RunnerError(str(error)) from error
        most = self._plan.profiles[number].rows
        if rows > most:
            raise RunnerError(f"the plan takes {most} rows of {tokens} tokens at once, not {rows}")
        if number != self._profile:
            self._checked(self._context.set_optimization_profile_async(number, self._device.stream), "the profile")
            self._profile = number

    def _resident_for(self, tables: Tables) -> _ResidentTables:
        key = tuple(array.shape[1:] for array in tables.arrays.values())
        if key not in self._resident:
            self._resident[key] = _ResidentTables(self._device, tables, self._plan.groups)
        return self._resident[key]

    def _set_input(self, name: str, array: Array) -> None:
        address = self._buffer(name).fit(array.nbytes)
        self._device.upload(address, np.ascontiguousarray(array))
        self._bind(name, address, array.shape)

    def _bind(self, name: str, address: int, shape: tuple[int, ...]) -> None:
        self._checked(self._context.set_input_shape(name, shape), name)
        self._checked(self._context.set_tensor_address(name, address), name)

    def _buffer(self, name: str) -> _Buffer:
        return self._buffers.setdefault(name, _Buffer(self._device))

    def _checked(self, done: bool, what: str) -> None:
        if not done:
            raise RunnerError(f"TensorRT refuses {what} of {PLAN}; its log says why")


class _Buffer:
    """Memory on the device that grows as needed."""

    def __init__(self, device: Device) -> None:
        self._device, self._size, self.address = device, 0, 0

    def fit(self, size: int) -> int:
        """Return the address of at least `size` bytes; what was there is lost if it had to grow."""
        if size > self._size:
            if self._size:
                self._device.free(self.address)
            self.address, self._size = self._device.allocate(size), size
        return self.address


class _ResidentTables:
    """The device's tables of one size class: `addresses` and `shapes` [G, …] by graph input name."""

    def __init__(self, device: Device, like: Tables, groups: int) -> None:
        self._device = device
        self.shapes = {name: (groups, *array.shape[1:]) for name, array in like.arrays.items()}
        self._row_bytes = {name: array.itemsize * array[0].size for name, array in like.arrays.items()}
        self.addresses = {name: device.allocate(groups * size) for name, size in self._row_bytes.items()}
        self._free = list(range(groups))[::-1]
        self._slots: OrderedDict[tuple[object, int], tuple[int, int]] = OrderedDict()  # → slot, stamp; oldest first

    def place(self, tables: Tables, group: Ints) -> Ints:
        """Return `group` as places on the device, int64 [B], after copying there what is not there yet.

        Raises:
            RunnerError: The rows have more tasks than the plan has groups.
        """
        present, of_row = np.unique(group, return_inverse=True)
        if len(present) > len(self._free) + len(self._slots):
            raise RunnerError(f"{len(present)} tasks in one micro-batch, and the plan has room for fewer (--groups)")
        # Tables that nobody stamps are those of one batch: they are copied each time, under a key of their own.
        owner: object = object() if tables.stamps is None else tables
        places = [self._slot(tables, owner, int(index)) for index in present]
        return np.array(places, dtype=np.int64)[of_row]

    def _slot(self, tables: Tables, owner: object, index: int) -> int:
        stamp = 0 if tables.stamps is None else int(tables.stamps[index])
        slot, stamp_there = self._slots.pop((owner, index), (-1, -1))
        if slot < 0:
            slot = self._free.pop() if self._free else self._slots.popitem(last=False)[1][0]
        self._slots[owner, index] = slot, stamp
        if stamp != stamp_there:
            for name, array in tables.arrays.items():
                self._device.upload(self.addresses[name] + slot * self._row_bytes[name], array[index])
        return slot


class CudaDevice:
    """The first GPU, through `cuda-bindings`. Raises RunnerError where there is none."""

    def __init__(self) -> None:
        try:
            self._cuda: Any = importlib.import_module("cuda.bindings.runtime")
        except ImportError as error:
            raise RunnerError(
                f"the runner tensorrt needs cuda-bindings: pip install cuda-bindings ({error})"
            ) from error
        self.stream = int(self._call("cudaStreamCreate"))

    def allocate(self, size: int) -> int:
        return int(self._call("cudaMalloc", size))

    def free(self, address: int) -> None:
        self._call("cudaFree", address)

    def upload(self, address: int, array: Array) -> None:
        # The copy of pageable memory has left the array when the call returns.
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, self.stream)

    def download(self, address: int, array: Array) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, self.stream)
        self._call("cudaStreamSynchronize", self.stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *results = getattr(self._cuda, name)(*arguments)
        if int(status) != 0:
            raise RunnerError(f"{name} failed: {status.name}")
        return results[0] if results else None


def _open_context(backbone: Backbone, plan: PlanSpec) -> Any:
    """Return an execution context of the plan. Raises RunnerError where TensorRT or its GPU does not take it."""
    try:
        trt: Any = importlib.import_module(MODULES[plan.runtime])
    except ImportError as error:
        raise RunnerError(f"{PLAN} was built with {plan.runtime}, which is not installed here ({error})") from error
    logger = trt.Logger(trt.Logger.WARNING)
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine((backbone.folder / PLAN).read_bytes())
    context = engine and engine.create_execution_context()
    if context is None:
        raise RunnerError(
            f"{PLAN} does not load here: it was built with {plan.runtime} {plan.version} for compute capability "
            f"{', '.join(plan.capabilities)}, and this is {plan.runtime} {trt.__version__}"
        )
    return context
