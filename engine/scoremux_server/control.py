"""The watcher's own calls to Triton: endpoints that take its key."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlsplit

from scoremux_server.command_line import KEY_HEADER
from scoremux_server.errors import ControlError


class Control:
    """Calls one Triton over HTTP with the key of this start."""

    def __init__(self, url: str, key: str) -> None:
        self._host = urlsplit(url).netloc
        self._key = key

    def load(self, model: str, timeout_s: float) -> None:
        """Load a model; one whose files are newer than its last load is loaded again. Raises ControlError."""
        status, body = self._call("POST", f"/v2/repository/models/{model}/load", timeout_s)
        if status != 200:
            raise ControlError(f"Triton did not load {model}: {_sentence(body)}")

    def unload(self, model: str, timeout_s: float) -> None:
        """Let a model finish the rows it has and refuse new ones, over old connections too. Raises ControlError."""
        status, body = self._call("POST", f"/v2/repository/models/{model}/unload", timeout_s)
        if status != 200:
            raise ControlError(f"Triton did not unload {model}: {_sentence(body)}")

    def is_live(self, timeout_s: float) -> bool:
        """Whether the server, whatever its models do, answers."""
        try:
            return self._call("GET", "/v2/health/live", timeout_s)[0] == 200
        except ControlError:
            return False

    def is_ours(self, timeout_s: float) -> bool:
        """Whether the server that answers takes this key, and not just any: another may have come to the same port.

        That tells servers apart that mean no harm; one that does learns a key that no Triton has.
        """
        path = "/v2/repository/index"
        try:
            # Without the key first: whoever asks for none is not shown it.
            return all(self._call("POST", path, timeout_s, key)[0] == to for key, to in (("", 403), (self._key, 200)))
        except ControlError:
            return False

    def _call(self, method: str, path: str, timeout_s: float, key: str | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._host, timeout=timeout_s)
        try:
            connection.request(method, path, headers={KEY_HEADER: self._key if key is None else key})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ControlError(f"Triton does not answer {path}: {type(error).__name__}") from error
        finally:
            connection.close()


def _sentence(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return "no reason given"
