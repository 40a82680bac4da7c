"""Metrics endpoints → samples by name."""

from __future__ import annotations

import http.client
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from scoremux_client.errors import InputError

Labels = Mapping[str, str]
_MOST_BYTES = 16 << 20


@dataclass(frozen=True)
class Target:
    """One server: its name on the screen, and the URLs of its metrics endpoints (Triton's, the watcher's)."""

    name: str
    urls: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Target:
        """Read `HOST:PORT[,HOST:PORT]`, each with or without http:// and a path. Raises InputError."""
        parts = [part.strip().rstrip("/") for part in text.split(",") if part.strip()]
        if not parts:
            raise InputError(f"{text!r} names no server: HOST:PORT of its metrics, or HOST:PORT,HOST:PORT")
        return cls(parts[0].partition("://")[2] or parts[0], tuple(map(_url, parts)))


@dataclass(frozen=True)
class Scrape:
    """What a server's endpoints said at `at` (monotonic seconds). down: why an endpoint said nothing, by its URL."""

    at: float
    samples: dict[str, list[tuple[Labels, float]]] = field(default_factory=dict)
    down: dict[str, str] = field(default_factory=dict)

    def total(self, name: str, wanted: Callable[[Labels], bool] = lambda _: True) -> float | None:
        """Return the sum of a metric's samples with labels that are wanted; None where there are none."""
        values = [value for labels, value in self.samples.get(name, ()) if wanted(labels)]
        return sum(values) if values else None


def scrape(targets: Iterable[Target], timeout_s: float = 2.0) -> list[Scrape]:
    """Read all targets side by side; an endpoint that does not answer is down, never an error."""
    targets = list(targets)
    with ThreadPoolExecutor(max(1, len(targets))) as pool:
        return list(pool.map(lambda target: _scrape(target, timeout_s), targets))


def _scrape(target: Target, timeout_s: float) -> Scrape:
    found = Scrape(time.monotonic())
    for url in target.urls:
        try:
            with urllib.request.urlopen(url, timeout=timeout_s) as answer:
                text = answer.read(_MOST_BYTES).decode("utf-8", "replace")
            for name, labels, value in parsed(text):
                found.samples.setdefault(name, []).append((labels, value))
        except OSError as error:
            found.down[url] = str(getattr(error, "reason", error))
        except (ValueError, http.client.HTTPException) as error:
            found.down[url] = f"these are no metrics ({type(error.__cause__ or error).__name__})"
    return found


def parsed(page: str) -> list[tuple[str, Labels, float]]:
    """Return a page's samples, all or none. Raises ValueError for one that is damaged."""
    try:
        families = text_string_to_metric_families(page)
        return [(sample.name, sample.labels, float(sample.value)) for family in families for sample in family.samples]
    except Exception as error:  # the parser knows no errors of its own: IndexError, OverflowError, whatever comes
        raise ValueError("the page cannot be parsed") from error


def _url(part: str) -> str:
    scheme, sign, rest = part.partition("://")
    if sign and scheme not in ("http", "https"):
        raise InputError(f"{part} is no http or https URL")
    address = rest if sign else part
    return f"{scheme if sign else 'http'}://{address}" + ("" if "/" in address else "/metrics")
