"""KServe v2 over gRPC."""

import os
import threading
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton

from scoremux_client import contract
from scoremux_client.errors import DeadlineError, RejectedError, TransportError
from scoremux_client.rows import Answer, Columns
from scoremux_client.transports.transport import MOST_ANSWER_BYTES, Tls, explained, kind_of, plain

_CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", MOST_ANSWER_BYTES),
    ("grpc.primary_user_agent", f"scoremux grpcio/{grpc.__version__}"),
    # gRPC's own pauses between connections grow to two minutes, long after a restarted server is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A channel of its own, even if another client of this process has one to the same address.
    ("grpc.use_local_subchannel_pool", 1),
]


class GrpcTransport:
    """One Triton at `url` (``host:port``); with TLS if certificates are given.

    outputs: the tensors that it asks for; batch: whether its requests belong to a batch job.
    """

    def __init__(
        self,
        url: str,
        tls: Tls | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        outputs: Sequence[contract.TensorSpec] = contract.OUTPUTS,
        batch: bool = False,
    ) -> None:
        self.url = url
        self._batch = batch
        self._outputs = [spec.name for spec in outputs]
        self._headers = dict(headers or {})
        self._credentials = None if tls is None else grpc.ssl_channel_credentials(*tls.read())
        self._closed = False
        self._begin()

    def submit(self, inputs: Columns, timeout_s: float | None) -> Answer:
        """Send one request. Never raises for one that fails: the future does."""
        future = Answer()
        if self._closed:
            future.set_exception(RejectedError(f"{self.url}: this client is closed"))
            return future
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            if not self._channels:
                self._channels.append(self._open())
            channel = self._channels[-1]
            channel.calls += 1

        answered = partial(self._answered, channel, future)
        try:
            call = channel.client.async_infer(
                contract.MODEL,
                [_input(spec, inputs[spec.name]) for spec in contract.INPUTS],
                answered,
                outputs=[triton.InferRequestedOutput(name) for name in self._outputs],
                client_timeout=timeout_s,
                headers=self._headers,
                parameters=contract.parameters(timeout_s, self._batch),
            )
        except triton.InferenceServerException as error:
            answered(None, error)
            return future
        except ValueError:  # grpc raises it for a closed channel
            future.set_exception(RejectedError(f"{self.url}: this client is closed"))
            return future
        # A future that is cancelled takes its request with it, so that nothing stays in flight.
        future.add_done_callback(lambda done: call.cancel() if done.cancelled() else None)
        return future

    def sharing(self, headers: Mapping[str, str], *, tasks: bool = False) -> "GrpcTransport":
        """Return a transport with other options on the same connections, which it must not close.

        tasks: it asks for the live tasks alone, for `served_tasks`.
        """
        shared = copy(self)
        outputs = (contract.TASKS,) if tasks else contract.OUTPUTS
        shared._headers, shared._outputs = dict(headers), [spec.name for spec in outputs]
        return shared

    def _answered(self, channel: "_Channel", future: Answer, result: Any, error: Any) -> None:
        failure = None if error is None else self._failure(error)
        self._ended(channel, failure)
        if not future.set_running_or_notify_cancel():
            return
        if failure is not None:
            future.set_exception(failure)
            return
        try:
            arrays = {name: result.as_numpy(name) for name in self._outputs}
            future.set_result({name: array for name, array in arrays.items() if array is not None})
        except Exception as bad:
            future.set_exception(RejectedError(f"{self.url}: an answer that cannot be read: {type(bad).__name__}"))

    def close(self) -> None:
        """Close the connections; requests in flight are cancelled."""
        self._closed = True
        for channel in self._channels if self._pid == os.getpid() else []:
            channel.client.close()

    def _begin(self) -> None:
        """Begin without a connection: those of another process do not survive a fork."""
        self._pid, self._lock = os.getpid(), threading.Lock()
        self._channels: list[_Channel] = []  # the last one takes requests, those before end theirs

    def _open(self) -> "_Channel":
        return _Channel(triton.InferenceServerClient(self.url, creds=self._credentials, channel_args=_CHANNEL_OPTIONS))

    def _ended(self, channel: "_Channel", error: TransportError | None) -> None:
        """Count a request out. After one that got no answer in time, the next use a new connection.

        gRPC keeps a connection that a firewall has silently dropped for as long as the kernel does, and Triton does not
        tolerate the pings that would find out.
        """
        with self._lock:
            channel.calls -= 1
            if isinstance(error, DeadlineError) and channel is self._channels[-1] and not self._closed:
                self._channels.append(self._open())
            if channel.calls or channel is self._channels[-1]:
                return
            self._channels.remove(channel)
        # gRPC waits for its callbacks, of which this is one.
        threading.Thread(target=channel.client.close).start()

    def _failure(self, error: Any) -> TransportError:
        """Return our error for tritonclient's."""
        code, message = str(error.status() or "").removeprefix("StatusCode."), str(error.message())
        kind = RejectedError if self._closed else kind_of(code, message)
        failure = kind(f"{self.url}: {'this client is closed' if self._closed else explained(plain(message))}")
        failure.__cause__ = error
        return failure


@dataclass(eq=False)
class _Channel:
    """A connection with the number of requests in flight on it."""

    client: Any
    calls: int = 0


def _input(spec: contract.TensorSpec, array: npt.NDArray[np.object_]) -> Any:
    tensor = triton.InferInput(spec.name, list(array.shape), spec.datatype)
    tensor.set_data_from_numpy(array)
    return tensor
