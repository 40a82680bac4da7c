"""How the desk and `scoremux api` listen: the port is taken before anything else, and a line says when they answer."""

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvicorn

from scoremux_desk.people_commands import say
from scoremux_files import InputError


class AnnouncedServer(uvicorn.Server):
    """Serves an application on a socket, and prints a line as soon as it answers."""

    def __init__(
        self, app: Any, taken: socket.socket, line: str, stopping: Callable[[], object] = lambda: None, **options: Any
    ) -> None:
        """stopping: ends requests that wait for something, as soon as the server is to stop."""
        quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}
        super().__init__(uvicorn.Config(app, **quiet, **options))
        self._taken = taken
        self._line = line
        self._stopping = stopping

    def serve_until_stopped(self) -> None:
        with suppress(KeyboardInterrupt):
            self.run([self._taken])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        say(self._line)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping()
        await super().shutdown(sockets)


def take_port(address: str, port: int) -> socket.socket:
    """Return a socket that is bound and does not listen yet. Raises InputError where another program has the port."""
    taken = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((address, port))
    except OSError as error:
        taken.close()
        raise InputError(
            f"port {port} of {address} cannot be used: {error.strerror}; give another one with --port"
        ) from error
    return taken
