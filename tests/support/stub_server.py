"""A gRPC server that says OK to every row at once, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2
from tritonclient.utils import serialize_byte_tensor

_LEVELS = 5


@lru_cache(maxsize=1024)
def reply(rows: int) -> bytes:
    """Return the answer to so many rows, ready to be sent."""
    probabilities = np.tile(np.array([0.1, 0.1, 0.2, 0.5, 0.1], np.float32), (rows, 1))
    columns = {
        "STATUS": ("BYTES", np.full((rows, 1), b"OK", np.object_)),
        "LEVEL": ("INT32", np.full((rows, 1), 3, np.int32)),
        "SCORE": ("FP32", np.full((rows, 1), 0.75, np.float32)),
        "PROBABILITIES": ("FP32", probabilities),
        "VERSION": ("BYTES", np.full((rows, 1), b"a" * 64, np.object_)),
        "TOKENS": ("INT32", np.full((rows, 1), 9, np.int32)),
        "TRUNCATED": ("BOOL", np.zeros((rows, 1), np.bool_)),
        "CONFIDENCE": ("FP32", np.full((rows, 1), 0.5, np.float32)),
        "CONDITION": ("BYTES", np.full((rows, 1), b"", np.object_)),
        "ROUTE": ("BYTES", np.full((rows, 1), b"machine", np.object_)),
        "LEVEL_RANGE": ("INT32", np.full((rows, 2), -1, np.int32)),
    }
    response = service_pb2.ModelInferResponse(model_name="scorer")
    for name, (datatype, array) in columns.items():
        response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        raw = serialize_byte_tensor(array).item() if datatype == "BYTES" else array.tobytes()
        response.raw_output_contents.append(raw)
    made: bytes = response.SerializeToString()
    return made


def handlers() -> Any:
    """Return the one method it has."""
    infer = grpc.unary_unary_rpc_method_handler(
        lambda rows, _: reply(rows), lambda data: service_pb2.ModelInferRequest.FromString(data).inputs[0].shape[0]
    )
    return grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": infer})


@contextmanager
def stub_server() -> Iterator[str]:
    """Run the server in another process; yield ``host:port``."""
    process = subprocess.Popen([sys.executable, __file__, "1"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def _main() -> None:
    """Listen on so many ports as the argument says, print the addresses, and answer until killed."""
    server = grpc.server(ThreadPoolExecutor(2), [handlers()], options=[("grpc.max_receive_message_length", -1)])
    ports = [server.add_insecure_port("127.0.0.1:0") for _ in range(int(sys.argv[1]))]
    server.start()
    print(" ".join(f"127.0.0.1:{port}" for port in ports), flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    _main()
