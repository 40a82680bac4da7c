"""A receiver of webhooks that can be killed.

    python receiver_process.py PORT FOLDER

receives over HTTPS with FOLDER/receiver.pem. What comes is written into FOLDER/came.jsonl before it is answered. Some
answers are errors, and some connections are closed without one.
"""

import json
import os
import random
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Receiver(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, folder: Path) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.came = os.open(folder / "came.jsonl", os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "receiver.pem")
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients are killed here."""


class _Handler(BaseHTTPRequestHandler):
    server: _Receiver

    def do_POST(self) -> None:
        body, fate = self.rfile.read(int(self.headers["content-length"])), random.random()
        if len(body) < int(self.headers["content-length"]):
            return  # the sender was killed
        if fate > 0.02:
            came = [dict(self.headers.items()), body.decode()]
            os.write(self.server.came, (json.dumps(came) + "\n").encode())
        if fate > 0.04:
            self.send_response(500 if fate < 0.06 else 204)
            self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


if __name__ == "__main__":
    _Receiver(int(sys.argv[1]), Path(sys.argv[2])).serve_forever()
