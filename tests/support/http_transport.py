"""KServe v2 over HTTP, as a program without gRPC speaks it, for tests of Triton and of the front door."""

import json
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor, triton_to_np_dtype

from scoremux_client import UnavailableError, contract
from scoremux_client.rows import Answer, Columns
from scoremux_client.transports.transport import kind_of

_LENGTH = "inference-header-content-length"
_CODES = {429: "RESOURCE_EXHAUSTED", 502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}


class HttpTransport:
    """One server at `url`. context: for https; outputs: the tensors that it asks for."""

    def __init__(
        self,
        url: str,
        context: ssl.SSLContext | bool = False,
        token: str | None = None,
        outputs: tuple[contract.TensorSpec, ...] = contract.OUTPUTS,
    ) -> None:
        sent = {} if token is None else {"authorization": f"Bearer {token}".strip()}
        self._http = httpx.Client(base_url=url, verify=context, headers=sent, timeout=None, trust_env=False)
        self._outputs = outputs
        self._threads = ThreadPoolExecutor(8)

    def submit(self, inputs: Columns, timeout_s: float | None) -> Answer:
        return self._threads.submit(self._exchange, inputs, timeout_s)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._http.close()

    def _exchange(self, inputs: Columns, timeout_s: float | None) -> Columns:
        data = [serialize_byte_tensor(inputs[spec.name]).item() for spec in contract.INPUTS]
        tensors = [
            {"name": spec.name, "datatype": spec.datatype, "shape": list(inputs[spec.name].shape),
             "parameters": {"binary_data_size": len(raw)}}
            for spec, raw in zip(contract.INPUTS, data, strict=True)
        ]  # fmt: skip
        outputs = [{"name": spec.name, "parameters": {"binary_data": True}} for spec in self._outputs]
        parameters = contract.parameters(timeout_s, False)
        header = json.dumps({"parameters": parameters, "inputs": tensors, "outputs": outputs}).encode()
        path, headers = f"/v2/models/{contract.MODEL}/infer", {_LENGTH: str(len(header))}
        try:
            answer = self._http.post(path, content=b"".join([header, *data]), headers=headers, timeout=timeout_s)
        except httpx.TransportError as error:
            raise UnavailableError(str(error)) from error
        if answer.status_code != 200:
            try:
                message = str(answer.json()["error"])
            except (ValueError, LookupError, TypeError):
                message = answer.text[:200]
            raise kind_of(_CODES.get(answer.status_code, "UNKNOWN"), message)(f"HTTP {answer.status_code}: {message}")
        return _columns(answer.content, int(answer.headers[_LENGTH]))


def _columns(body: bytes, at: int) -> Columns:
    columns: dict[str, Any] = {}
    for output in json.loads(body[:at])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        raw, at = body[at : at + size], at + size
        kind = output["datatype"]
        array = deserialize_bytes_tensor(raw) if kind == "BYTES" else np.frombuffer(raw, triton_to_np_dtype(kind))
        columns[output["name"]] = array.reshape(output["shape"])
    return columns
