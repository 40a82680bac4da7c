"""One caller who tries to stop the others. Everything goes to loopback, and ends by itself.

    python attacks.py NAME HOST:PORT HEADER RATE [CA]

sends so many requests a second of an attack with a header, for some 20 s; with CA by TLS. It ends when its input does.
"""

import json
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

MOST_S = 20.0
LENGTH = 8 << 20


class Attacker:
    """Sends requests at a rate, and keeps the connections; answers: their statuses."""

    def __init__(self, address: str, header: str, rate: int, ca: str = "") -> None:
        host, _, port = address.rpartition(":")
        self.place, self.header, self.pause_s = (host, int(port)), header, 1 / rate
        self.context = ssl.create_default_context(cafile=ca) if ca else None
        self.open: list[socket.socket] = []
        self.answers = Counter[str]()

    def begin(self, method: str, path: str, body: bytes = b"", length: int | None = None) -> socket.socket:
        connection = socket.create_connection(self.place, timeout=MOST_S)
        if self.context:
            connection = self.context.wrap_socket(connection, server_hostname="localhost")
        head = f"{method} {path} HTTP/1.1\r\nhost: a\r\n{self.header}\r\ncontent-length: {length or len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        self.open.append(connection)
        return connection

    def send(self, count: int, method: str, path: str, body: bytes = b"", length: int | None = None) -> None:
        """Send requests, each by a thread, and count what comes back."""
        ends = time.monotonic() + MOST_S

        def one() -> None:
            try:
                with self.begin(method, path, body, length) as connection:
                    self.answers[connection.recv(12).decode().rpartition(" ")[2] or "closed"] += 1
            except OSError as error:
                self.answers[type(error).__name__] += 1

        threads = []
        for _ in range(count):
            threads.append(threading.Thread(target=one, daemon=True))
            threads[-1].start()
            time.sleep(self.pause_s)
            if time.monotonic() > ends:
                break
        for thread in threads:
            thread.join(max(0.0, ends - time.monotonic()))


ATTACKS: dict[str, Callable[[Attacker], None]] = {
    "slow rows": lambda a: a.send(200, "POST", "/v1/score", b" " * (7 << 20), LENGTH),
    "lists of tasks": lambda a: a.send(400, "GET", "/v1/tasks"),
    "large rows": lambda a: a.send(100, "POST", "/v1/score", _large()),
    "followers": lambda a: a.send(400, "GET", "/v1/changes?wait=15"),
}


def _large() -> bytes:
    rows = [{"id": str(n), "task": "t-1", "text": "word " * 3000} for n in range(500)]
    return json.dumps({"rows": rows}).encode()


if __name__ == "__main__":
    attacker = Attacker(sys.argv[2], sys.argv[3], int(sys.argv[4]), *sys.argv[5:6])
    ATTACKS[sys.argv[1]](attacker)
    print(dict(attacker.answers), flush=True)
