"""KServe v2 over HTTP/1.1, on the standard library.

tritonclient's own HTTP client lives on gevent: it may not be shared by threads, its requests run only while the thread
that made them waits, and none can be cancelled. What is left of it is the body's format, which `http_body` writes with
tritonclient's byte codecs; so HTTP needs no extra and brings no second event loop.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from scoremux_client import contract
from scoremux_client.errors import (
    DeadlineError,
    RejectedError,
    ServerDiedError,
    ServerDownError,
    TransportError,
    UnavailableError,
)
from scoremux_client.http_body import HEADER_LENGTH, pack, sentence, unpack
from scoremux_client.replies import code_of_http, kind_of
from scoremux_client.rows import Columns
from scoremux_client.security import Tls

_MOST_REQUESTS = 64
"""Requests of one transport under way at once; more wait."""


class HttpTransport:
    """One Triton at `url` (``host:port``), its API below `path`; with TLS where certificates are given."""

    def __init__(
        self, url: str, path: str = "", tls: Tls | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.url = url
        self._path = f"{path}/v2/models/{contract.MODEL}/infer"
        self._context = None if tls is None else tls.context()
        self._headers = {"content-type": "application/octet-stream", **(headers or {})}
        self._threads = ThreadPoolExecutor(_MOST_REQUESTS, thread_name_prefix="scoremux-http")
        self._idle: list[http.client.HTTPConnection] = []
        self._busy: set[_Exchange] = set()
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]:
        """Send one chunk. Never raises for a failed request: the future does."""
        future: Future[Columns] = Future()
        exchange = _Exchange(*pack(inputs), None if timeout_s is None else time.monotonic() + timeout_s)
        with self._lock:
            if self._closed:
                future.set_exception(RejectedError(f"{self.url}: this client is closed"))
                return future
            self._busy.add(exchange)
            self._threads.submit(self._run, exchange, future)
        future.add_done_callback(lambda done: exchange.abandon() if done.cancelled() else None)
        return future

    def close(self) -> None:
        """Close every connection; requests in flight end with an error."""
        with self._lock:
            self._closed = True
            idle, busy, self._idle = self._idle, list(self._busy), []
        for connection in idle:
            connection.close()
        for exchange in busy:
            exchange.abandon()
        self._threads.shutdown(wait=False, cancel_futures=False)

    def __enter__(self) -> HttpTransport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, exchange: _Exchange, future: Future[Columns]) -> None:
        """Do one exchange in a thread of the pool. The future stays cancellable until there is an outcome."""
        outcome: Columns | TransportError
        try:
            outcome = self._converse(exchange)
        except TransportError as error:
            outcome = error
        except Exception as error:
            outcome = self._own(error)
        if exchange.lost and type(outcome) is ServerDownError:
            # Or it was closed while idle, and this is no death: a suspect's probe uses such connections up first.
            outcome = ServerDiedError(f"{outcome}; the connection before was lost with the request")
        with self._lock:
            self._busy.discard(exchange)
        if not future.set_running_or_notify_cancel():
            return
        if isinstance(outcome, TransportError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def _converse(self, exchange: _Exchange) -> Columns:
        fresh = False
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle and not fresh else None
            reused = connection is not None
            connection = connection or self._connection()
            try:
                status, header_bytes, body = exchange.on(connection, self._path, self._headers)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError, ssl.SSLError):
                connection.close()
                if reused and not exchange.abandoned:
                    fresh = exchange.lost = True  # the server had closed it while it was idle, and perhaps all others
                    continue
                raise
            except BaseException:
                connection.close()
                raise
            self._keep(connection)
            break
        if status != 200:
            message = sentence(body)
            raise kind_of(code_of_http(status), message)(f"{self.url}: HTTP {status}: {message}")
        try:
            return unpack(body, header_bytes)
        except (ValueError, KeyError, TypeError, AttributeError) as bad:
            # From None: what cannot be read may be quoted by the error that says so.
            raise RejectedError(f"{self.url}: an answer that cannot be read: {type(bad).__name__}") from None

    def _connection(self) -> http.client.HTTPConnection:
        if self._context is not None:
            return http.client.HTTPSConnection(self.url, context=self._context)
        return http.client.HTTPConnection(self.url)

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if not self._closed and connection.sock is not None:
                self._idle.append(connection)
                return
        connection.close()

    def _own(self, error: Exception) -> TransportError:
        """Map a foreign error to ours."""
        kind: type[TransportError] = RejectedError
        if not self._closed:
            if isinstance(error, TimeoutError):
                kind = DeadlineError
            elif isinstance(error, ConnectionRefusedError):
                kind = ServerDownError
            elif isinstance(error, (OSError, http.client.HTTPException)):
                kind = UnavailableError
        mapped = kind(f"{self.url}: {error or type(error).__name__}")
        mapped.__cause__ = error
        return mapped


class _Exchange:
    """One request and its answer. `abandon` ends it from another thread; lost: a connection ended without an answer."""

    def __init__(self, body: bytes, header_bytes: int, expires_at: float | None) -> None:
        self._body = body
        self._header_bytes = header_bytes
        self._expires_at = expires_at
        self._socket: socket.socket | None = None
        self.abandoned = False
        self.lost = False

    def on(
        self, connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str]
    ) -> tuple[int, int, bytes]:
        """Return the answer's status, the length of its JSON header, and its body."""
        connection.timeout = self._left_s()
        self._end_if_abandoned()
        if connection.sock is None:
            connection.connect()
        try:
            self._hold(connection.sock)
            connection.request("POST", path, self._body, {**headers, HEADER_LENGTH: str(self._header_bytes)})
            self._hold(connection.sock)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            self._socket = None  # it may soon be another exchange's
        if answer.getheader("content-length") is None and not answer.chunked:
            # To http.client headers that break off are headers that end.
            raise http.client.IncompleteRead(body)
        return answer.status, int(answer.getheader(HEADER_LENGTH) or len(body)), body

    def abandon(self) -> None:
        """Make whoever reads or writes stop at once."""
        self.abandoned = True
        held = self._socket
        if held is not None:
            with contextlib.suppress(OSError):
                # Not the SSLSocket's own, which takes the session from under the thread that reads.
                socket.socket.shutdown(held, socket.SHUT_RDWR)

    def _hold(self, held: socket.socket) -> None:
        self._socket = held
        self._end_if_abandoned()
        held.settimeout(self._left_s())

    def _end_if_abandoned(self) -> None:
        if self.abandoned:
            raise ConnectionAbortedError("the request was cancelled")

    def _left_s(self) -> float | None:
        if self._expires_at is None:
            return None
        left_s = self._expires_at - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the deadline passed")
        return left_s
