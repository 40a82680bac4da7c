"""Reads `adapter_model.safetensors`: the header first, the data only if the sizes in the header fit the file."""

import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import IO, Annotated, Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, NonNegativeInt, TypeAdapter

from scoremux_engine.errors import PackageError
from scoremux_files.digests import open_file
from scoremux_files.errors import reading
from scoremux_files.settings import parse_object, quote_key

MAX_HEADER_BYTES = 4 << 20
"""Longest header that is parsed: some 30,000 tensors."""

_LENGTH_BYTES = 8
_DTYPES: dict[str, Any] = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
Array = npt.NDArray[np.float32]


class _TensorHeader(BaseModel, extra="forbid", strict=True):
    dtype: str
    shape: list[NonNegativeInt]
    data_offsets: Annotated[list[NonNegativeInt], Field(min_length=2, max_length=2)]


_HEADERS = TypeAdapter(dict[str, _TensorHeader])


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a package, of which only the header is kept, once it was needed.

    The library maps a path into memory, where a file that is cut short meanwhile is a signal, or copies each tensor out
    of a file's bytes, which keeps the process larger than the bank's budget. Here nothing is allocated before the
    claimed sizes fit, and the memory goes back to the kernel.
    """

    path: Path

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Each tensor's shape. Raises PackageError where the header is cut short, too long or malformed."""
        return {name: tuple(header.shape) for name, header in self._header[1].items()}

    @cached_property
    def _header(self) -> tuple[bytes, dict[str, _TensorHeader]]:
        """The header with the eight bytes that say its length, and what it claims of each tensor."""
        path = self.path
        with open_part(path) as file:
            room = file.seek(0, os.SEEK_END) - _LENGTH_BYTES
            file.seek(0)
            length = int.from_bytes(head := file.read(_LENGTH_BYTES), "little")
            if length > room:
                raise PackageError(f"{path} is not a whole safetensors file: its header would end beyond it")
            if length > MAX_HEADER_BYTES:
                raise PackageError(f"{path}: its header is larger than {MAX_HEADER_BYTES} bytes")
            head += file.read(length)
        try:
            content = parse_object(head[_LENGTH_BYTES:])
            content.pop("__metadata__", None)
            headers = _HEADERS.validate_python(content)
        except ValueError as error:
            raise PackageError(f"{path} is not a whole safetensors file: its header is malformed") from error
        return head, headers

    def load(self) -> tuple[dict[str, Array], str]:
        """Return every tensor as float32, and the sha256 of the whole file.

        Raises PackageError where a tensor has another type or is not finite, or the file is not what its header claims.
        """
        (head, headers), size = self._header, 0
        for name, header in sorted(headers.items(), key=lambda item: item[1].data_offsets):
            if header.dtype not in _DTYPES:
                dtype = quote_key(header.dtype)
                raise PackageError(f"{self.path}: {quote_key(name)} is {dtype}; F32, F16 and BF16 are read")
            end = size + np.dtype(_DTYPES[header.dtype]).itemsize * prod(header.shape)
            if header.data_offsets != [size, end]:
                raise PackageError(f"{self.path} is not a whole safetensors file: {quote_key(name)} is misplaced")
            size = end
        with open_part(self.path) as file:
            if file.seek(0, os.SEEK_END) != len(head) + size:
                raise PackageError(f"{self.path} is not a whole safetensors file: its tensors do not fill it exactly")
            file.seek(len(head))
            # Memory of its own, so that the kernel has it back when the last array is gone.
            data = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            if file.readinto(memoryview(data)[:size]) != size:  # type: ignore[attr-defined]
                raise PackageError(f"{self.path} was cut short while it was read")
        digest = hashlib.sha256(head)
        digest.update(memoryview(data)[:size])
        return {name: self._array(name, header, data) for name, header in headers.items()}, digest.hexdigest()

    def _array(self, name: str, header: _TensorHeader, data: mmap.mmap) -> Array:
        values = np.frombuffer(data, _DTYPES[header.dtype], prod(header.shape), header.data_offsets[0])
        array: Array = values.reshape(header.shape).astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            raise PackageError(f"{self.path}: {name} holds NaN or infinity")
        return array


@contextmanager
def open_part(path: Path) -> Iterator[IO[bytes]]:
    """Open a file of a package. Raises PackageError where it is missing, not a regular file, or cannot be read."""
    with reading(path, PackageError):
        try:
            file = open_file(path)
        except FileNotFoundError as error:
            raise PackageError(_why_missing(path)) from error
        with file:
            yield file


def _why_missing(path: Path) -> str:
    """Return why no other file can replace a missing one; pickles are never opened."""
    for other in sorted(path.parent.glob(f"{path.stem}*")) if path.suffix == ".safetensors" else ():
        if other.suffix == ".bin":
            return f"{other} is a pickle file, which is never opened; save as safetensors"
        if other.name.endswith(".index.json"):
            return f"{other} belongs to a sharded adapter; save it as one {path.name}"
    return f"{path} cannot be read: No such file or directory"
