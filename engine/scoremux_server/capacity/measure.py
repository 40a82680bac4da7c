"""Rows/s and memory of a real server, started here for a moment."""

from __future__ import annotations

import random
import re
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from scoremux_client import Response, ScoringClient, Transport
from scoremux_engine.runners.streams import available_cores
from scoremux_engine.store.reader import StoreReader
from scoremux_server.capacity.plan import Rate, Sizes
from scoremux_server.capacity.sources import sizes_of
from scoremux_server.endpoints import Endpoints
from scoremux_server.errors import SetupError
from scoremux_server.profile import Profile
from scoremux_server.server import Server

OPENVINO_GROWTH_BYTES = 250 << 20
"""What a stream of OpenVINO comes to hold for shapes of micro-batches, up to its bound; MiniLM's in bfloat16, measured,
see Profiles in server_config/README.md. It takes far longer to grow than a measurement lasts."""

_ROWS, _WARM_UP_ROWS = 1024, 256
_WORDS = """
the of and a to in is it that was for on are as with they be at one have this from or had by not but some what there we
can out other were all your when up use how said an each she which do their time if will way about many
""".split()  # noqa: SIM905


@dataclass(frozen=True)
class Measured:
    """rate: of one core or card; sizes: of this server; rows, seconds: that were measured."""

    rate: Rate
    sizes: Sizes
    rows: int
    seconds: float


def made_up(store: Path, mean_words: float, rows: int = _ROWS) -> list[Response]:
    """Return seeded responses to all live tasks; lengths are exponential about `mean_words`."""
    tasks, draw = sorted(StoreReader(store).manifest().tasks), random.Random(rows)
    if not tasks:
        raise SetupError(f"{store} has no task to measure; publish one")
    lengths = (1 + round(draw.expovariate(1 / mean_words)) for _ in range(rows))
    return [Response(draw.choice(tasks), " ".join(draw.choices(_WORDS, k=words))) for words in lengths]


def measure(repository: Path, store: Path, profile: Profile, rows: list[Response], least_s: float) -> Measured:
    """Start a server, take its speed on `rows`, and ask it what it holds.

    Raises SetupError or StartError where the server does not start, TransportError where it does not answer.
    """
    with TemporaryDirectory(prefix="scoremux-capacity-") as scratch:
        log = Path(scratch) / "triton.log"
        server = Server(repository, Endpoints.choose(), store=store, log=log, profile=profile)
        with server:
            done, seconds = scored_in(server.endpoints.grpc_url, rows, least_s)
            bank, versions = _bank(server.endpoints.metrics_url)
            memory = server.memory_bytes()
    if not done:
        raise SetupError("none of the rows was scored, so there is no speed; are they of tasks in this store?")
    on_card = profile.runner == "triton" or profile.device != "cpu"
    units = 1 if on_card else profile.threads or available_cores()
    source, repeated = f"measured here in {seconds:.0f} s", 1 - len({(row.task, row.text) for row in rows}) / len(rows)
    rate = Rate(done / seconds / units, "card" if on_card else "core", source, units, repeated)
    growth = OPENVINO_GROWTH_BYTES if profile.runner == "openvino" else 0
    packages = sizes_of(repository, store).package_bytes
    sizes = Sizes(memory - bank, bank / versions, packages, growth, profile.streams or None)
    return Measured(rate, sizes, done, seconds)


def scored_in(server: str | Transport, rows: list[Response], least_s: float) -> tuple[int, float]:
    """Score `rows` again and again for `least_s`, after a warm-up; return how many got a score, and the seconds.

    Identical rows go out one by one: what a client spares a server is not the server's speed.
    """
    with ScoringClient(server, deduplicate=False) as client:
        client.score(rows[:_WARM_UP_ROWS])
        done, started = 0, time.perf_counter()
        while (seconds := time.perf_counter() - started) < least_s:
            done += sum(scored.ok for scored in client.score(rows))
    return done, seconds


def _bank(metrics_url: str) -> tuple[float, float]:
    """Return bytes and versions of the bank."""
    with urllib.request.urlopen(metrics_url, timeout=10) as answer:
        text = answer.read().decode()
    found = {
        name: re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        for name in ("scoremux_bank_bytes", "scoremux_bank_versions")
    }
    values = [float(match[1]) for match in found.values() if match]
    if len(values) != 2 or not values[1]:
        raise SetupError(f"{metrics_url} says nothing of the bank; is this the scorer's own server?")
    return values[0], values[1]
