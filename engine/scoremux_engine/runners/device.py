"""ONNX Runtime on a GPU: the adapters of resident tasks stay in its memory; ids, mask, group and outputs travel."""

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from onnxruntime import InferenceSession, OrtValue

from scoremux_engine.errors import RunnerError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.tables import Array, Tables
from scoremux_engine.runners.onnxruntime import PROVIDERS, OnnxRuntimeRunner
from scoremux_engine.runners.runner import Floats, Ints, Outputs, RowInputs, at_once

_COPY = (
    b'\x08\x08:<\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x04copyZ\x10\n\x01x\x12\x0b\n\t\x08\x02\x12\x05\n\x03\x12\x01n'
    b"b\x10\n\x01y\x12\x0b\n\t\x08\x02\x12\x05\n\x03\x12\x01nB\x04\n\x00\x10\r"
)
"""The graph y = Identity(x), x uint8 [n]: ONNX Runtime's Python has no call that writes a part of a device tensor."""

_LEAST_SLOTS, _ROOM = 8, 1.25
"""Slots that a device tensor begins with, and how many times as many it gets as are needed when it grows."""


class DeviceRunner(OnnxRuntimeRunner):
    """Runs a graph with IO binding. The tables of a pool are device tensors, which are updated in place.

    A slot is copied to the device when a micro-batch first reads what was written there. No micro-batch in flight
    reads that slot: the bank writes to no slot of a version in use. Other tables are copied at each call.

    Args:
        device: ``cuda``, or ``cpu`` to try the same path without a GPU.
        precision: ``float32``, ``tf32``, or that of a reduced graph (`REDUCED`).

    Attributes:
        slots_copied: How many slots were copied so far.
        tables_copied: How many calls had to copy tables that are in no pool.
    """

    def __init__(self, backbone: Backbone, device: str = "cuda", precision: str = "float32", **more: Any) -> None:
        super().__init__(backbone, device, precision=precision, **more)
        self.overlap, self.streams = 2, 1
        self.in_place, self.express = True, False
        self.slots_copied = self.tables_copied = 0
        self._copy = InferenceSession(_COPY, providers=[PROVIDERS[device]])
        self._lock = threading.Lock()
        self._pools: WeakKeyDictionary[Tables, _DevicePool] = WeakKeyDictionary()

    def run_on_each_stream(self, rows: RowInputs, tables: Tables) -> list[Outputs]:
        return at_once([partial(self.run, rows, tables, pooled=True)] * self.overlap)

    def _compute(self, rows: RowInputs, tables: Tables, outputs: list[str]) -> Sequence[Floats]:
        binding = self._session.io_binding()
        for name, array in rows.feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for name, value in self._on_device(tables, rows.group).items():
            binding.bind_ortvalue_input(name, value)
        for name in outputs:
            binding.bind_output(name)
        self._session.run_with_iobinding(binding)
        computed: list[Floats] = binding.copy_outputs_to_cpu()
        return computed

    def _on_device(self, tables: Tables, group: Ints) -> dict[str, OrtValue]:
        with self._lock:
            if tables.writes is None:
                self.tables_copied += 1
                return {
                    name: OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self._device)
                    for name, array in tables.arrays.items()
                }
            pool = self._pools.setdefault(tables, _DevicePool(tables.writes))
            slots = np.unique(group)
            pool.reserve(tables, int(slots[-1]) + 1, self._device)
            for slot in slots[pool.copied[slots] != tables.writes[slots]]:
                for name, value in pool.values.items():
                    self._write(tables.arrays[name][slot], value, int(slot))
                pool.copied[slot] = tables.writes[slot]
                self.slots_copied += 1
            return pool.values

    def _write(self, row: Array, value: OrtValue, slot: int) -> None:
        """Write one row of a device tensor."""
        if not row.nbytes:
            return
        content = np.ascontiguousarray(row).reshape(-1).view(np.uint8)
        binding = self._copy.io_binding()
        binding.bind_cpu_input("x", content)
        place = value.data_ptr() + slot * row.nbytes
        binding.bind_output("y", self._device, 0, np.uint8, [row.nbytes], place)
        self._copy.run_with_iobinding(binding)


class _DevicePool:
    """The tables of a pool on a device, of as many slots as were needed so far.

    Attributes:
        values: Graph input name → device tensor [slots, …]. Replaced when it grows; calls in flight keep theirs.
        copied: Which write of each slot is on the device; −1: none.
    """

    def __init__(self, writes: Ints) -> None:
        self.values: dict[str, OrtValue] = {}
        self.copied = np.full(len(writes), -1)
        self._slots = 0

    def reserve(self, tables: Tables, slots: int, device: str) -> None:
        """Make room for this many slots. Raises RunnerError where the device has no memory for them."""
        if slots <= self._slots:
            return
        self._slots = min(len(self.copied), max(_LEAST_SLOTS, int(slots * _ROOM)))
        self.copied[:] = -1
        try:
            self.values = {
                name: OrtValue.ortvalue_from_shape_and_type((self._slots, *array.shape[1:]), array.dtype, device)
                for name, array in tables.arrays.items()
            }
        except RuntimeError as error:
            self._slots = 0
            raise RunnerError(f"the GPU has no memory for {slots} adapters; lower bank_bytes") from error
