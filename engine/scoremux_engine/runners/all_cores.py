"""A row that is alone: all cores compute it, where that changes no bit."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from scoremux_engine.runners.runner import Floats

Request = TypeVar("Request")


class AllCores(Generic[Request]):
    """One request that has all cores.

    With several threads a library may split a sum, which then has other bits. So a shape that is new is computed on a
    stream too, and only shapes whose bits were the same are computed here alone from then on.

    Args:
        make: Makes the request, in a thread of its own that the first row starts. Until it is made, or where that
            fails, streams compute.
    """

    def __init__(self, make: Callable[[], Request]) -> None:
        self._make: Callable[[], Request] | None = make
        self._request: Future[Request] = Future()
        self._same: dict[Hashable, bool] = {}

    def run(
        self,
        shape: Hashable,
        here: Callable[[Request], Sequence[Floats]],
        on_a_stream: Callable[[], Sequence[Floats]],
    ) -> Sequence[Floats]:
        """Return a row's outputs, with the bits that they have on a stream.

        Args:
            shape: All that a kernel may choose its way of computing by.
            here: Computes the row with this request.
            on_a_stream: Computes it as if it had company.
        """
        if self._make:
            pool = ThreadPoolExecutor(1, "all-cores")
            self._request, self._make = pool.submit(self._make), None
            pool.shutdown(wait=False)
        if not self._request.done() or self._request.exception():
            return on_a_stream()
        if self._same.get(shape):
            return here(self._request.result())
        outputs = on_a_stream()
        if shape not in self._same:
            pairs = zip(outputs, here(self._request.result()), strict=True)
            self._same[shape] = all(one.tobytes() == other.tobytes() for one, other in pairs)
        return outputs
