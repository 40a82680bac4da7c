"""The fast CPU runner: OpenVINO, in this process, in float32, bfloat16 or int8."""

import ctypes
import math
import queue
import re
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property, partial
from typing import Any, Generic, TypeVar

import ml_dtypes
import numpy as np
import numpy.typing as npt
import openvino
from openvino.preprocess import PrePostProcessor

from scoremux_engine.errors import RunnerError
from scoremux_engine.model import backbone as names
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.provenance import library_arithmetic
from scoremux_engine.model.tables import Array, DTypes, Tables
from scoremux_engine.runners import precisions
from scoremux_engine.runners.arithmetic import name_of, probe_digest
from scoremux_engine.runners.int8 import quantise, stored_ranges
from scoremux_engine.runners.packing import fold_constants, pack_tokens, packed_feeds
from scoremux_engine.runners.portable_math import make_portable
from scoremux_engine.runners.runner import (
    MORE_MEMORY,
    BackboneRunner,
    Floats,
    Ints,
    Outputs,
    RowInputs,
    Streams,
    at_once,
)

Request = TypeVar("Request")
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

# What each stream keeps of each kind for shapes of micro-batches it has seen: some four a shape, half a MiB each, and
# more for numbers of packed tokens, so OpenVINO's own 5,000 would let a process grow by gigabytes over days. Making a
# shape's entries again takes 3 ms: some percent of the throughput of batches of 512 that never repeat a shape, nothing
# where shapes repeat.
_KEPT_ENTRIES = 250

# A stream keeps the memory of the largest micro-batch it has computed: some hundred MiB after long rows, whose
# attention takes rows x length^2 numbers a head. So long after the last such micro-batch it is given back.
_LARGE, _GIVEN_BACK_S = 1 << 18, 20.0

_COMPARED_ROWS = 8
"""How many rows of a shape have to have the same bits beside the streams as on a stream."""


_MARK = np.uint32(0x7FC0DEAD)
"""The bits of a float32, a NaN, that no kernel writes."""

_NO_MEMORY = re.compile(r"\bmemory|alloc", re.IGNORECASE)


def read(backbone: Backbone) -> openvino.Model:
    """Return the graph as a model, folded before it is copied, so that all copies share its weights."""
    model = openvino.Core().read_model(backbone.onnx)
    fold_constants(model)
    return model


class OpenVinoRunner(BackboneRunner):
    """Runs `backbone.onnx` on the CPU.

    precision: ``float32``; ``bfloat16`` (matrix products in bfloat16, sums in float32); ``int8`` (products of
    tokens with the backbone's weights, see `quantise`; the rest in float32). One that this processor does
    not compute is an error. threads and streams: as `Streams.of` takes them.
    graph: what `read` returns, to read it once for several runners.
    """

    in_place = True
    anytime = True

    def __init__(
        self,
        backbone: Backbone,
        precision: str = precisions.FLOAT32,
        threads: int | None = None,
        streams: int | None = None,
        *,
        graph: openvino.Model | None = None,
    ) -> None:
        shared = Streams.of(threads, streams)
        self.overlap = self.streams = shared.count
        self.express = shared.count > 1
        self.precision = precisions.check(precision)
        self._threads, self._path = shared.threads, backbone.onnx
        core = openvino.Core()
        graph = graph or read(backbone)
        model = self._prepared(graph.clone(), backbone)
        self._side_by_side = self._compiled(core, model, shared)

        # The same model: one whose adapters read a lone row's packed tokens as they are, without segments, is faster,
        # but had other bits in bfloat16 for one row in some hundred.
        def with_threads(threads: int) -> _Request:
            compiled = self._compiled(core, model, Streams(1, threads))
            return _Request(compiled.create_infer_request(), self.dtypes)

        self._all_cores = BesideStreams(partial(with_threads, shared.count * shared.threads))
        self._extra_stream = BesideStreams(partial(with_threads, shared.threads))
        self._kept = backbone.spec.kept
        # The last to be free is the first to be used again: its caches are warm.
        self._idle: queue.LifoQueue[_Request] = queue.LifoQueue()
        self._taking_all = threading.Lock()
        self._large_at = math.inf
        for _ in range(shared.count):
            self._idle.put(_Request(self._side_by_side.create_infer_request(), self.dtypes))

    def _prepared(self, model: Any, backbone: Backbone) -> Any:
        """Rewrite the model for its precision and for packed tokens; set what its inputs are."""
        self.packed_inputs = pack_tokens(model, backbone.spec)
        if self.precision == precisions.INT8:
            ranges = stored_ranges(backbone)
            quantise(model, ranges if precisions.adds_int8_exactly() else {})
        if self.precision != precisions.BFLOAT16:
            make_portable(model, backbone.spec.max_tokens)
        # What comes wider than it is computed in is converted whole, all slots of it, at every run.
        narrowed = [name for site in backbone.spec.sites for name in site.inputs]
        narrowed += [names.head_inputs(linear.name)[0] for linear in backbone.spec.head]
        narrowed += backbone.spec.kept
        self.dtypes: DTypes = dict.fromkeys(narrowed, _BFLOAT16) if self.precision == precisions.BFLOAT16 else {}
        if self.dtypes:
            model = _with_bfloat16_inputs(model, self.dtypes)
        return model

    def _compiled(self, core: openvino.Core, model: Any, streams: Streams) -> Any:
        try:
            options = precisions.options(self.precision, streams.count, streams.threads)
            return core.compile_model(model, "CPU", {**options, "CPU_RUNTIME_CACHE_CAPACITY": _KEPT_ENTRIES})
        except (RuntimeError, MemoryError) as error:
            message = f"OpenVINO cannot compile {self._path} in {self.precision}: {cause_of(error)}"
            raise RunnerError(message) from error

    @cached_property
    def arithmetic(self) -> str:
        cores = self._threads * self.streams
        digest = probe_digest(OpenVinoRunner, self.precision, cores, self.streams)
        return name_of(library_arithmetic("openvino", self.precision), digest)

    def run_on_each_stream(self, rows: RowInputs, tables: Tables) -> list[Outputs]:
        feeds, outputs = self._feeds(rows), [names.LOGITS, names.POOLED]
        self._give_back(rows.input_ids.shape)
        with self._taking_all:  # two threads that each hold some would wait for each other
            requests = [self._idle.get() for _ in range(self.streams)]
        try:
            computed = at_once([partial(request.infer, tables, feeds, outputs) for request in requests])
            return [Outputs(*arrays) for arrays in computed]
        finally:
            for request in requests:
                self._idle.put(request)

    def _feeds(self, rows: RowInputs) -> dict[str, Ints]:
        return rows.feeds | {name: a for name, a in packed_feeds(rows).items() if name in self.packed_inputs}

    def _compute(self, rows: RowInputs, tables: Tables, outputs: list[str]) -> Sequence[Floats]:
        feeds = self._feeds(rows)
        self._give_back(rows.input_ids.shape)

        def on_a_stream() -> list[Floats]:
            request = self._idle.get()
            try:
                return request.infer(tables, feeds, outputs)
            finally:
                self._idle.put(request)

        def beside(request: _Request) -> list[Floats]:
            return request.infer(tables, feeds, outputs)

        if not rows.alone or self.streams == 1:
            return on_a_stream()
        if self._idle.empty():  # no wait; it has the threads of a stream, so its kernels are the same
            return self._extra_stream.run("any", beside, on_a_stream)
        shape = tuple(outputs), tables.sizes, *(array.shape for array in feeds.values())
        return self._all_cores.run(shape, beside, on_a_stream)

    def _give_back(self, shape: tuple[int, ...]) -> None:
        """Give memory back if no large micro-batch is computed any more. shape: of the one that is next."""
        now = time.monotonic()
        if shape[0] * shape[1] ** 2 >= _LARGE:
            self._large_at = now
        elif now - self._large_at > _GIVEN_BACK_S:
            idle: list[_Request] = []
            with suppress(queue.Empty):
                while True:
                    idle.append(self._idle.get_nowait())
            if len(idle) == self.streams:  # nothing is computed
                self._side_by_side.release_memory()
                with suppress(AttributeError):  # another C library than glibc
                    ctypes.CDLL(None).malloc_trim(0)
                self._large_at = math.inf
            for request in idle:
                self._idle.put(request)


class _Request:
    """One inference at a time, and the tables it reads."""

    def __init__(self, request: Any, dtypes: DTypes) -> None:
        self._request = request
        self._dtypes = dtypes
        self._bound: Tables | None = None
        self._arrays: dict[str, Array] = {}

    def infer(self, tables: Tables, feeds: dict[str, Ints], names_out: Sequence[str]) -> list[Floats]:
        """Return copies of outputs, whose memory the next run writes to.

        Where memory is short, OpenVINO 2026.4 may return without an error and without having written anything: the
        outputs are those of the run before. So these are marked first, and a mark that is left is an error.
        """
        self._bind(tables)
        for name in names_out:
            self._request.get_tensor(name).data.view(np.uint32)[:] = _MARK
        try:
            out = self._request.infer(feeds, share_inputs=True, share_outputs=True)
        except (RuntimeError, MemoryError) as error:
            raise RunnerError(f"OpenVINO cannot compute a micro-batch: {cause_of(error)}") from error
        outputs = [np.array(out[name], dtype=np.float32) for name in names_out]
        rows = len(feeds[names.GROUP])
        if any(len(output) != rows or (output.view(np.uint32) == _MARK).any() for output in outputs):
            raise RunnerError(f"OpenVINO computed nothing and gave no error, as where memory is short; {MORE_MEMORY}")
        return outputs

    def _bind(self, tables: Tables) -> None:
        """Set the table inputs, once for all micro-batches that share them."""
        if tables is self._bound:
            return
        arrays = {n: a.astype(self._dtypes.get(n, a.dtype), copy=False) for n, a in tables.arrays.items()}
        for name, array in arrays.items():
            self._request.set_tensor(name, _tensor(array))
        self._bound, self._arrays = tables, arrays  # kept alive: the request only points at them


def cause_of(error: Exception) -> str:
    """Return the line of OpenVINO's message that says why; the lines above it name its own files. With a remedy."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    out_of_memory = next((line.strip() for line in lines if _NO_MEMORY.search(line)), "")
    return f"{out_of_memory}; {MORE_MEMORY}" if out_of_memory else lines[-1].strip()


def _with_bfloat16_inputs(model: Any, inputs: Iterable[str]) -> Any:
    """Return the model taking these inputs in bfloat16, which it would convert them to at every run otherwise."""
    processor = PrePostProcessor(model)
    for name in inputs:
        processor.input(name).tensor().set_element_type(openvino.Type.bf16)
    return processor.build()


def _tensor(array: npt.NDArray[Any]) -> Any:
    """Return a tensor that reads the array's own memory."""
    if array.dtype == _BFLOAT16:
        # OpenVINO takes the bits; it does not know numpy's name for the type.
        return openvino.Tensor(array.view(np.uint16), openvino.Shape(array.shape), openvino.Type.bf16)
    return openvino.Tensor(array, True)


class BesideStreams(Generic[Request]):
    """One request for lone rows, beside the streams: on all cores, or with the threads of one more stream.

    With more threads a library may split a sum, which then has other bits. So the first eight rows of a shape are
    computed on a stream too. Only if all eight had the same bits are further rows of the shape computed here alone.

    Args:
        make: Makes the request, in a thread of its own that the first row starts. Until it is made, or where that
            fails, streams compute.
    """

    def __init__(self, make: Callable[[], Request]) -> None:
        self._make: Callable[[], Request] | None = make
        self._request: Future[Request] = Future()
        self._same: dict[Hashable, float] = {}  # how many rows had the same bits; -inf: one had others
        self._lock = threading.Lock()

    def run(
        self, shape: Hashable, here: Callable[[Request], Sequence[Floats]], on_a_stream: Callable[[], Sequence[Floats]]
    ) -> Sequence[Floats]:
        """Return a row's outputs, with the bits that they have on a stream.

        Args:
            shape: All that a kernel may choose its way of computing by.
            on_a_stream: Computes the row as one of several.
        """
        if self._make:
            pool = ThreadPoolExecutor(1, "beside-streams")
            self._request, self._make = pool.submit(self._make), None
            pool.shutdown(wait=False)
        if not self._request.done() or self._request.exception():
            return on_a_stream()
        if self._same.get(shape, 0) >= _COMPARED_ROWS:
            with self._lock:
                return here(self._request.result())
        outputs = on_a_stream()
        if self._same.get(shape, 0) >= 0:
            with self._lock:
                others = here(self._request.result())
                equal = [x.tobytes() for x in outputs] == [x.tobytes() for x in others]
                self._same[shape] = self._same.get(shape, 0) + 1 if equal else -math.inf
        return outputs
