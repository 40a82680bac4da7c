"""How a chunk of rows reaches a server: the seam that tests replace."""

from __future__ import annotations

from concurrent.futures import Future
from types import TracebackType
from typing import Any, Protocol

import grpc
import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton

from scoremux_client import contract
from scoremux_client.errors import DeadlineError, RejectedError, TransportError, UnavailableError
from scoremux_client.rows import Columns


class Transport(Protocol):
    """Sends one chunk; the future gives the output tensors or raises a `TransportError`."""

    def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]: ...

    def close(self) -> None: ...


class GrpcTransport:
    """KServe v2 over gRPC to one Triton at `url` (``host:port``), without TLS."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = triton.InferenceServerClient(url, channel_args=_CHANNEL_OPTIONS)

    def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]:
        """Send one chunk. Never raises for a failed request: the future does."""
        future: Future[Columns] = Future()

        def answered(result: Any, error: Any) -> None:
            if not future.set_running_or_notify_cancel():
                return
            if error is not None:
                future.set_exception(self._own(error))
                return
            try:
                arrays = {spec.name: result.as_numpy(spec.name) for spec in contract.OUTPUTS}
                future.set_result({name: array for name, array in arrays.items() if array is not None})
            except Exception as bad:
                future.set_exception(RejectedError(f"{self.url}: an answer that cannot be read: {type(bad).__name__}"))

        tensors = [_input(spec, inputs[spec.name]) for spec in contract.INPUTS]
        try:
            call = self._client.async_infer(contract.MODEL, tensors, answered, client_timeout=timeout_s)
        except triton.InferenceServerException as error:
            future.set_exception(self._own(error))
            return future
        except ValueError:  # grpc's word for a closed channel
            future.set_exception(UnavailableError(f"{self.url}: this client is closed"))
            return future
        # A future that is cancelled takes its request with it, so that nothing stays in flight.
        future.add_done_callback(lambda done: call.cancel() if done.cancelled() else None)
        return future

    def close(self) -> None:
        """Close the channel; requests in flight are cancelled."""
        self._client.close()

    def __enter__(self) -> GrpcTransport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _own(self, error: Any) -> TransportError:
        """Map tritonclient's error to ours."""
        status, message = str(error.status() or ""), str(error.message())
        own: type[TransportError] = RejectedError
        if "UNAVAILABLE" in status:
            own = UnavailableError
        elif "DEADLINE_EXCEEDED" in status or "Deadline Exceeded" in message:
            own = DeadlineError
        mapped = own(f"{self.url}: {message}")
        mapped.__cause__ = error
        return mapped


_CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.primary_user_agent", f"scoremux grpcio/{grpc.__version__}"),
]


def _input(spec: contract.TensorSpec, array: npt.NDArray[np.object_]) -> Any:
    tensor = triton.InferInput(spec.name, list(array.shape), spec.datatype)
    tensor.set_data_from_numpy(array)
    return tensor
