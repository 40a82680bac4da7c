"""KServe v2's HTTP bodies with Triton's binary tensors: a JSON header, then the tensors' bytes one after the other."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor, triton_to_np_dtype

from scoremux_client import contract
from scoremux_client.rows import Columns

HEADER_LENGTH = "inference-header-content-length"
"""HTTP header: bytes of the JSON header; absent where all of the body is JSON."""


def pack(inputs: Columns) -> tuple[bytes, int]:
    """Return the request's body and the length of its JSON header."""
    tensors, data = [], []
    for spec in contract.INPUTS:
        array = inputs[spec.name]
        data.append(serialize_byte_tensor(array).item() if array.size else b"")
        tensors.append(
            {
                "name": spec.name,
                "datatype": spec.datatype,
                "shape": list(array.shape),
                "parameters": {"binary_data_size": len(data[-1])},
            }
        )
    # Binary outputs too: Triton writes NaN into JSON, where it does not belong.
    outputs = [{"name": spec.name, "parameters": {"binary_data": True}} for spec in contract.OUTPUTS]
    header = json.dumps({"inputs": tensors, "outputs": outputs}).encode()
    return b"".join([header, *data]), len(header)


def unpack(body: bytes, header_bytes: int) -> dict[str, npt.NDArray[Any]]:
    """Return the answer's tensors by name. Raises ValueError, KeyError or TypeError where it is none."""
    header = json.loads(body[:header_bytes])
    arrays: dict[str, npt.NDArray[Any]] = {}
    start = header_bytes
    for output in header["outputs"]:
        dtype = triton_to_np_dtype(output["datatype"])
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            values = [v.encode() for v in output["data"]] if output["datatype"] == "BYTES" else output["data"]
            array = np.array(values, dtype=dtype)
        else:
            raw = body[start : start + size]
            if len(raw) != size:
                raise ValueError("the body ends too early")
            start += size
            array = deserialize_bytes_tensor(raw) if output["datatype"] == "BYTES" else np.frombuffer(raw, dtype)
        arrays[output["name"]] = array.reshape(output["shape"])
    return arrays


def sentence(body: bytes) -> str:
    """Return the error that a body holds, or as much of it as says something."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace").strip()
