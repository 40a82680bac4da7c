"""Readiness that tells the truth: `/healthz`, `/readyz` and `/metrics` on a port of the watcher."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST

from scoremux_server.canary import Answer
from scoremux_server.errors import SetupError
from scoremux_server.watch_metrics import CanaryMetrics, exposition

_STUCK_S = 60.0


class State(str, Enum):
    """What the watcher is doing."""

    STARTING = "starting"
    SERVING = "serving"
    HEALING = "healing"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


class Health:
    """What the watcher knows of its server. Written by the watcher's thread alone, read by any.

    versions: of what is running, by name; restarts, reloads: how often the server was started, and a model loaded,
    again; cause: why, the last time.
    """

    def __init__(self, versions: Mapping[str, str] | None = None) -> None:
        self.state = State.STARTING
        self.cause = ""
        self.restarts = 0
        self.reloads = 0
        self.versions = dict(versions or {})
        self.canaries = CanaryMetrics()
        self._good_at: float | None = None
        self._last_good = False
        self._beat_at = time.monotonic()

    def beat(self) -> None:
        """Say that the watcher's loop is alive."""
        self._beat_at = time.monotonic()

    def note(self, answer: Answer) -> None:
        """Keep what a canary said."""
        self._last_good = answer.good
        self.canaries.count(answer)
        if answer.good:
            self._good_at = time.monotonic()
            if answer.version:
                self.versions["canary"] = answer.version
        else:
            self.cause = answer.cause

    @property
    def ready(self) -> bool:
        """Whether rows sent now get scores, as far as the last canary can tell."""
        return self.state is State.SERVING and self._last_good

    @property
    def alive(self) -> bool:
        """Whether the watcher does its work; False asks whoever supervises it to start it again."""
        stuck = time.monotonic() - self._beat_at > _STUCK_S
        return self.state is not State.FAILED and not (stuck and self.state in (State.SERVING, State.HEALING))

    @property
    def canary_age_s(self) -> float | None:
        """Seconds since the last good canary; None before the first."""
        return None if self._good_at is None else time.monotonic() - self._good_at

    def body(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        age = None if self.canary_age_s is None else round(self.canary_age_s, 3)
        return {
            "ready": self.ready,
            "state": self.state.value,
            "canary_age_s": age,
            "restarts": self.restarts,
            "reloads": self.reloads,
            "cause": self.cause,
            "versions": dict(self.versions),
        }


class HealthEndpoint:
    """An HTTP server on a thread of its own; a context manager. Raises SetupError where the port is taken."""

    def __init__(self, health: Health, address: str, port: int) -> None:
        handler = type("Handler", (_Handler,), {"health": health})
        try:
            self._server = ThreadingHTTPServer((address, port), handler)
        except OSError as error:
            raise SetupError(f"the watcher's port {port} on {address} cannot be used: {error}") from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    def __enter__(self) -> HealthEndpoint:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    health: Health
    timeout = 5.0  # a client that sends nothing must not hold a thread
    server_version, sys_version = "scoremux", ""

    def do_GET(self) -> None:
        if self.path == "/readyz":
            self._answer_json(200 if self.health.ready else 503, self.health.body())
        elif self.path == "/healthz":
            self._answer_json(200 if self.health.alive else 503, {"alive": self.health.alive})
        elif self.path == "/metrics":
            self._answer(200, CONTENT_TYPE_LATEST, exposition(self.health))
        else:
            self._answer_json(404, {"error": "there are /healthz, /readyz and /metrics"})

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a probe a second is no news."""

    def _answer_json(self, status: int, body: Mapping[str, object]) -> None:
        self._answer(status, "application/json", json.dumps(body).encode())

    def _answer(self, status: int, kind: str, payload: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)
