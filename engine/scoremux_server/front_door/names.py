"""Addresses of backends that door.toml names: looked up again and again, the way the system looks names up.

HAProxy's own `resolvers` ask DNS alone. They know neither /etc/hosts nor the search list of /etc/resolv.conf, would
take a healthy backend `localhost` or `triton.namespace` down, and forget every address at a reload.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

EVERY_S = 5.0
Lookup = Callable[[str], Sequence[str]]


def host_name(where: str) -> str | None:
    """Return the name in ``host:port``, None where the host is an address."""
    host = where.rpartition(":")[0]
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return host
    return None


def look_up(name: str) -> list[str]:
    """Return a name's addresses, the system's first choice first. Raises OSError or UnicodeError."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass
class _Name:
    """address: the last one known; error: why the last look-up failed; begun: when it did."""

    address: str = ""
    error: str = ""
    begun: float = float("-inf")
    under_way: bool = False
    answered: threading.Event = field(default_factory=threading.Event)


class Names:
    """The last known address of each name. A name that fails keeps what it had: whether that lives, checks tell."""

    def __init__(self, lookup: Lookup = look_up, every_s: float = EVERY_S) -> None:
        self._lookup = lookup
        self._every_s = every_s
        self._known: dict[str, _Name] = {}
        self._news: SimpleQueue[str] = SimpleQueue()

    def ask(self, names: Iterable[str], wait_s: float = 0.0) -> dict[str, str]:
        """Begin to look up those that are due; return what is known, after `wait_s` at most for the never answered."""
        wanted = {name: self._known.setdefault(name, _Name()) for name in names}
        deadline = time.monotonic() + wait_s
        for name, known in wanted.items():
            if not known.under_way and time.monotonic() - known.begun >= self._every_s:
                known.under_way, known.begun = True, time.monotonic()
                # A thread each, which nobody waits for: the system may take half a minute, and cannot be interrupted.
                threading.Thread(target=self._look_up, args=(name, known), name="scoremux-name", daemon=True).start()
        for known in wanted.values():
            known.answered.wait(max(0.0, deadline - time.monotonic()))
        return {name: known.address for name, known in wanted.items() if known.address}

    def news(self) -> list[str]:
        """Return a sentence for each name that failed or changed since the last call."""
        said = []
        try:
            while True:
                said.append(self._news.get_nowait())
        except Empty:
            return said

    def _look_up(self, name: str, known: _Name) -> None:
        before, error, found = known.address, "", ()  # type: tuple[str, str, Sequence[str]]
        try:
            # HAProxy takes no address with a zone.
            found = [address for address in self._lookup(name) if "%" not in address]
            error = "" if found else "it has no address"
        except Exception as failed:  # whatever it is, the name must be looked up again
            error = getattr(failed, "strerror", None) or str(failed) or type(failed).__name__
        if found and before not in found:
            known.address = found[0]
            if before or known.error:
                self._news.put(f"{name} is at {known.address} now")
        elif error and not known.error:
            kept = f"its address stays {before}" if before else "nothing is sent there until it is known"
            self._news.put(f"{name} cannot be looked up ({error}): {kept}")
        known.error = error
        known.under_way = False
        known.answered.set()
