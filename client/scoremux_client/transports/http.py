"""KServe v2 over HTTP with httpx: a JSON header, then Triton's binary tensors one after the other.

The requests run on the event loop of this process, where any of them can be cancelled, and where one deadline covers a
whole exchange: httpx's own timeouts are for single reads and writes.
"""

import asyncio
import json
import os
import threading
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import httpx
import numpy as np
import numpy.typing as npt
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor, triton_to_np_dtype

from scoremux_client import contract
from scoremux_client.errors import DeadlineError, RejectedError, TooLargeError, TransportError, UnavailableError
from scoremux_client.rows import Answer, Columns
from scoremux_client.transports.transport import MOST_ANSWER_BYTES, Tls, explained, kind_of, plain

_HEADER_LENGTH = "inference-header-content-length"
"""HTTP header: bytes of the JSON header; absent if all of the body is JSON."""

_LIMITS = httpx.Limits(max_connections=64, max_keepalive_connections=64, keepalive_expiry=60)
_CONNECT, _HANDSHAKE = "connection.connect_tcp", "connection.start_tls"
"""httpcore's events for a request that gets a new connection; each has a `.started` and a `.complete`."""

_ELSEWHERE = "this is not Triton's HTTP port, which is 8000 unless given"
_LOST = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
_CODE_OF_HTTP = {
    408: "DEADLINE_EXCEEDED", 429: "RESOURCE_EXHAUSTED", 502: "UNAVAILABLE", 503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}  # fmt: skip

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_inherited: list[asyncio.AbstractEventLoop] = []
"""Loops of the processes that this one was forked from. To close one would disturb the process that runs it."""


def start(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Run a coroutine on the event loop of this process; cancelling the future cancels it.

    The loop is one daemon thread, made at first use, that runs the HTTP requests of every client: clients are shared by
    threads and by the caller's own event loops, so none of those can be theirs. A forked process starts its own.
    """
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="scoremux", daemon=True).start()
    return asyncio.run_coroutine_threadsafe(coroutine, _loop)


def _forget_loop() -> None:
    global _loop, _lock
    _inherited.extend([] if _loop is None else [_loop])
    _loop, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_loop)


class HttpTransport:
    """One Triton at `url` (``host:port``), its API below `path`; with TLS if certificates are given.

    outputs: the tensors that it asks for; batch: whether its requests belong to a batch job.
    """

    def __init__(
        self,
        url: str,
        path: str = "",
        tls: Tls | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        outputs: Sequence[contract.TensorSpec] = contract.OUTPUTS,
        batch: bool = False,
    ) -> None:
        self.url = url
        self._batch = batch
        self._outputs = tuple(outputs)
        self._endpoint = f"{'http' if tls is None else 'https'}://{url}{path}/v2/models/{contract.MODEL}/infer"
        self._verify = False if tls is None else tls.context()  # False: http://, nothing to verify
        self._headers = {
            "content-type": "application/octet-stream",
            "accept-encoding": "identity",  # a few packed bytes may be gigabytes
            **(headers or {}),
        }
        self._loop: asyncio.AbstractEventLoop | None = None
        self._requests: set[asyncio.Task[Any]] = set()
        self._closed = False

    def submit(self, inputs: Columns, timeout_s: float | None) -> Answer:
        """Send one request. Never raises for one that fails: the future does."""
        return start(self._exchange(inputs, timeout_s))

    def close(self) -> None:
        """Close every connection; requests in flight end with an error."""
        if not self._closed:
            self._closed = True
            start(self._shut_down())

    async def _shut_down(self) -> None:
        for request in self._requests:
            request.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)
        if self._loop is asyncio.get_running_loop():
            await self._client.aclose()

    async def _exchange(self, inputs: Columns, timeout_s: float | None) -> Columns:
        if self._closed:
            raise RejectedError(f"{self.url}: this client is closed")
        if self._loop is not asyncio.get_running_loop():  # the first request of this process
            self._loop, self._requests = asyncio.get_running_loop(), set()
            # Proxies and credentials of the environment are not this client's business.
            self._client = httpx.AsyncClient(
                verify=self._verify, headers=self._headers, timeout=None, limits=_LIMITS, trust_env=False
            )
        parameters = contract.parameters(timeout_s, self._batch)
        request = asyncio.ensure_future(self._post(*_pack(inputs, self._outputs, parameters)))
        self._requests.add(request)
        try:
            await asyncio.wait([request], timeout=timeout_s)
            if not request.done():
                raise DeadlineError(f"{self.url}: no answer within the deadline of the request")
            if request.cancelled():
                raise RejectedError(f"{self.url}: this client is closed")
            return self._columns(*request.result())
        except httpx.LocalProtocolError as error:
            raise RejectedError(f"{self.url}: the request cannot be sent: {error}") from error
        except (httpx.HTTPError, OSError) as error:
            raise UnavailableError(f"{self.url}: {explained(_words(error))}") from error
        finally:
            request.cancel()
            self._requests.discard(request)

    async def _post(self, body: bytes, header_bytes: int) -> tuple[httpx.Response, bytes]:
        """Send a request; return the answer's head and its body, which is not unpacked."""
        headers = {_HEADER_LENGTH: str(header_bytes)}
        while True:
            events: dict[str, Any] = {}  # event → what it says

            async def trace(event: str, info: Any, events: dict[str, Any] = events) -> None:
                events[event] = info

            try:
                async with self._client.stream(
                    "POST", self._endpoint, content=body, headers=headers, extensions={"trace": trace}
                ) as answer:
                    return answer, await self._read(answer)
            except _LOST:
                # A server may have closed an idle connection just now. Scoring twice does no harm.
                if f"{_CONNECT}.started" in events:
                    raise
            except asyncio.CancelledError:
                # httpcore leaves a connection open if its handshake is cancelled, and the event loop keeps it.
                if f"{_HANDSHAKE}.started" in events and f"{_HANDSHAKE}.complete" not in events:
                    await events[f"{_CONNECT}.complete"]["return_value"].aclose()
                raise

    async def _read(self, answer: httpx.Response) -> bytes:
        body = bytearray()
        async for block in answer.aiter_raw():
            body += block
            if len(body) > MOST_ANSWER_BYTES:
                raise TooLargeError(f"{self.url}: the answer is larger than max ({MOST_ANSWER_BYTES} bytes)")
        return bytes(body)

    def _columns(self, answer: httpx.Response, body: bytes) -> Columns:
        if answer.status_code != 200:
            elsewhere = answer.status_code in (405, 501)
            message = _ELSEWHERE if elsewhere else plain(_message(body))
            kind: type[TransportError] = kind_of(_CODE_OF_HTTP.get(answer.status_code, "UNKNOWN"), message)
            raise kind(f"{self.url}: HTTP {answer.status_code}: {message}")
        try:
            return _unpack(body, int(answer.headers.get(_HEADER_LENGTH, len(body))))
        except (ValueError, KeyError, TypeError, AttributeError) as bad:
            # From None: what cannot be read may be quoted by the error that says so.
            raise RejectedError(f"{self.url}: an answer that cannot be read: {type(bad).__name__}") from None


def _pack(
    inputs: Columns, outputs: Iterable[contract.TensorSpec], parameters: Mapping[str, int | bool]
) -> tuple[bytes, int]:
    """Return the request's body and the length of its JSON header."""
    tensors, data = [], []
    for spec in contract.INPUTS:
        array = inputs[spec.name]
        data.append(serialize_byte_tensor(array).item() if array.size else b"")
        size = {"binary_data_size": len(data[-1])}
        tensors.append({"name": spec.name, "datatype": spec.datatype, "shape": list(array.shape), "parameters": size})
    # Binary outputs too: they are smaller, and an older server wrote NaN into JSON.
    binary = [{"name": spec.name, "parameters": {"binary_data": True}} for spec in outputs]
    header = json.dumps({"parameters": parameters, "inputs": tensors, "outputs": binary}).encode()
    return b"".join([header, *data]), len(header)


def _unpack(body: bytes, header_bytes: int) -> Columns:
    """Return the answer's tensors by name. Raises ValueError, KeyError or TypeError where it cannot be read."""
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


def _words(error: BaseException) -> str:
    """Return the message of an error, or the first message among its causes."""
    origin: BaseException | None = error
    while origin is not None and not str(origin):
        origin = origin.__cause__ or origin.__context__
    return type(error).__name__ if origin is None else str(origin)


def _message(body: bytes) -> str:
    """Return the error that a body holds, or as much of it as says something."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace").strip()
