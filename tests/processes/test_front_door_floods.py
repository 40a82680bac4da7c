"""Half TLS handshakes from several addresses: another address is answered, and those with few connections get in."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from doors import needs_haproxy
from stands import Stand, head, stand

pytestmark = needs_haproxy
HALF_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
FLOODS, EACH = [f"127.0.0.{number}" for number in range(2, 7)], 250


def half_handshake(port: int, source: str) -> socket.socket | None:
    try:
        connection = socket.create_connection(("127.0.0.1", port), timeout=2, source_address=(source, 0))
        connection.sendall(HALF_HELLO)
        connection.setblocking(False)
    except OSError:
        return None
    return connection


def is_closed(connection: socket.socket) -> bool:
    try:
        return not connection.recv(100)
    except BlockingIOError:
        return False
    except OSError:
        return True


def flood(port: int, source: str, full: threading.Event, stop: threading.Event) -> None:
    """Keep `EACH` half handshakes open, or try to, until `stop`."""
    held: list[socket.socket] = []
    while not stop.is_set():
        for connection in [one for one in held if is_closed(one)]:
            held.remove(connection)
            connection.close()
        made = (half_handshake(port, source) for _ in range(EACH - len(held)) if not stop.is_set())
        held += [connection for connection in made if connection]
        full.set()
        stop.wait(0.1)
    for connection in held:
        connection.close()


@contextmanager
def flooded(port: int) -> Iterator[None]:
    stop, full = threading.Event(), [threading.Event() for _ in FLOODS]
    threads = [
        threading.Thread(target=flood, args=(port, source, one, stop)) for source, one in zip(FLOODS, full, strict=True)
    ]
    try:
        for thread in threads:
            thread.start()
        for one in full:
            assert one.wait(120)
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def answer_s(shared: Stand, source: str) -> float:
    """Return how long a new connection and an answer take."""
    started = time.monotonic()
    with shared.place.connect(source=source) as connection:
        connection.sendall(head(shared.tokens["everything"], "GET", "/v2/health/live"))
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    return time.monotonic() - started


@pytest.mark.parametrize("limits", [(1024, 256), (50, 25)], ids=["default", "chart"])
def test_sixth_address_is_answered_beside_five_floods_of_half_handshakes(
    tmp_path: Path, limits: tuple[int, int]
) -> None:
    # With hours for a handshake, its timeout alone helps nobody.
    keys = {"connections": limits[0], "connections_per_address": limits[1], "client_s": 7200}
    with stand(tmp_path, **keys) as shared, flooded(shared.place.port):
        took = [answer_s(shared, "127.0.0.7") for _ in range(5)]
        print(f"answered after {max(took):.2f} s")
        assert max(took) < 60


def test_strangers_leave_a_quarter_of_the_connections_to_addresses_that_have_shown_a_token(tmp_path: Path) -> None:
    with stand(tmp_path, connections=40, connections_per_address=20, client_s=7200) as shared, ExitStack() as stack:
        answer_s(shared, "127.0.0.7")
        for number in range(20, 35):  # two each: few
            for _ in range(2):
                stack.enter_context(shared.place.connect(source=f"127.0.0.{number}"))
        with pytest.raises(OSError):
            shared.place.connect(source="127.0.0.99")
        for _ in range(2):
            stack.enter_context(shared.place.connect(source="127.0.0.7"))


def test_all_connections_may_be_those_of_a_balancer(tmp_path: Path) -> None:
    with stand(tmp_path, connections=24, connections_per_address=24) as shared, ExitStack() as stack:
        answer_s(shared, "127.0.0.7")
        for _ in range(23):
            stack.enter_context(shared.place.connect(source="127.0.0.7"))
