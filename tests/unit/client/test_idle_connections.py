"""HTTP connections that a real server ended in every way there is, while the client kept them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from peers import ROW
from scoremux_client import RejectedError, Tls, rows
from scoremux_client.transports.connect import connect


def _hear(connection: socket.socket) -> None:
    with connection.makefile("rb") as request:
        length = 0
        while line := request.readline().strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        request.read(length)


def _say_goodbye(connection: socket.socket) -> None:
    if isinstance(connection, ssl.SSLSocket):
        connection.setblocking(False)
        with contextlib.suppress(ssl.SSLError):
            connection.unwrap()  # sends close_notify; the client's own does not come
    connection.close()


def _hang_up(connection: socket.socket) -> None:
    connection.close()


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize(
    ("end", "pause"),
    # A reset without a pause would take with it an answer that was not read yet.
    [(_say_goodbye, False), (_hang_up, False), (_say_goodbye, True), (_hang_up, True), (_reset, True)],
)
@pytest.mark.parametrize("secure", [False, True])
def test_a_connection_that_ended_while_it_was_idle_is_replaced(
    authority: trustme.CA, roots: Path, end: Callable[[socket.socket], None], pause: bool, secure: bool
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    answers, answered, ended = 20, threading.Semaphore(0), threading.Semaphore(0)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for number in range(answers):
                connection, _ = listener.accept()
                if secure:
                    connection = context.wrap_socket(connection, server_side=True)
                _hear(connection)
                body = b'{"error": "heard you %d"}' % number
                connection.sendall(b"HTTP/1.1 400 x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                if pause:
                    answered.acquire(timeout=60)
                    end(connection)
                    ended.release()
                else:  # while the next request is on its way
                    threading.Timer(0.0005, end, [connection]).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"{'https' if secure else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
        with contextlib.closing(connect(url, tls=Tls(roots) if secure else None)) as transport:
            for number in range(answers):
                with pytest.raises(RejectedError, match=f"heard you {number}$"):
                    transport.submit(rows.encode(ROW), 60.0).result()
                if pause:
                    answered.release()
                    assert ended.acquire(timeout=60)
                    time.sleep(0.01)  # for it to arrive
        thread.join(60)
