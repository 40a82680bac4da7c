"""`adapter_model.safetensors`: the header first, the data only after the header has been checked."""

from __future__ import annotations

import hashlib
import mmap
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from scoremux_engine.errors import PackageError
from scoremux_engine.packages.span import Span
from scoremux_files.settings import parse_object, quote_key

MAX_HEADER_BYTES = 4 << 20
"""Longest header that is parsed: some 30,000 tensors."""

_LENGTH_BYTES = 8
_KINDS: dict[str, Any] = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
Array = npt.NDArray[np.float32]
Size = Annotated[int, Field(ge=0)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    dtype: str
    shape: list[Size]
    data_offsets: Annotated[list[Size], Field(min_length=2, max_length=2)]


_ENTRIES = TypeAdapter(dict[str, _Entry])


@dataclass(frozen=True)
class TensorFile:
    """A safetensors file of which the header was read: `shapes` by tensor name, as the header claims them."""

    span: Span
    head: bytes
    entries: dict[str, _Entry]
    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def open(cls, span: Span) -> TensorFile:
        """Read the header. Raises PackageError where it is cut short, too long or not a header."""
        head = _read_head(span)
        try:
            content = parse_object(head[_LENGTH_BYTES:])
            content.pop("__metadata__", None)
            entries = _ENTRIES.validate_python(content)
        except ValueError as error:
            raise PackageError(f"{span.path} is not a whole safetensors file: its header is malformed") from error
        return cls(span, head, entries, {name: tuple(entry.shape) for name, entry in entries.items()})

    def load(self) -> tuple[dict[str, Array], str]:
        """Read the data; return every tensor as float32, and the sha256 of the whole file.

        Nothing is allocated before the claimed sizes are known to be the file's own. Raises PackageError naming the
        tensor that is of another type or not finite.
        """
        claimed = 0
        for name, entry in sorted(self.entries.items(), key=lambda item: item[1].data_offsets):
            if entry.dtype not in _KINDS:
                kind = quote_key(entry.dtype)
                raise PackageError(f"{self.span.path}: {quote_key(name)} is {kind}; F32, F16 and BF16 are read")
            end = claimed + np.dtype(_KINDS[entry.dtype]).itemsize * prod(entry.shape)
            if entry.data_offsets != [claimed, end]:
                raise PackageError(f"{self.span.path} is not a whole safetensors file: {quote_key(name)} is misplaced")
            claimed = end
        if claimed != self.span.size - len(self.head):
            raise PackageError(f"{self.span.path} is not a whole safetensors file: its tensors do not fill it exactly")
        # Pages of its own, so that the kernel has them back when the last array is gone.
        data = mmap.mmap(-1, max(claimed, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.span.read_into(memoryview(data)[:claimed], len(self.head))
        digest = hashlib.sha256(self.head)
        digest.update(memoryview(data)[:claimed])
        return {name: self._array(name, data) for name in self.entries}, digest.hexdigest()

    def _array(self, name: str, data: mmap.mmap) -> Array:
        entry = self.entries[name]
        values = np.frombuffer(data, _KINDS[entry.dtype], prod(entry.shape), entry.data_offsets[0])
        array = values.reshape(entry.shape).astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            raise PackageError(f"{self.span.path}: {name} holds NaN or infinity")
        return array


def _read_head(span: Span) -> bytes:
    """Return the header with the eight bytes that say its length."""
    if span.size < _LENGTH_BYTES:
        raise PackageError(f"{span.path} is not a whole safetensors file: it has {span.size} bytes")
    length = span.read(0, _LENGTH_BYTES)
    size = int.from_bytes(length, "little")
    if size > span.size - _LENGTH_BYTES:
        raise PackageError(f"{span.path} is not a whole safetensors file: its header would end beyond it")
    if size > MAX_HEADER_BYTES:
        raise PackageError(f"{span.path}: its header is larger than {MAX_HEADER_BYTES} bytes")
    return length + span.read(_LENGTH_BYTES, size)
