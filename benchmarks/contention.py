"""Who waits for whom: batch jobs, greedy tokens, abandoned requests and kills beside somebody who waits for lone rows.

    python -m benchmarks background --data SCIENTSBANK
    python -m benchmarks neighbours abandoned
    python -m benchmarks kills --minutes 10

What disturbs runs in processes of its own, beside the server on the same cores. Lone rows arrive by a Poisson process
and are timed from when they are due, so that one that waits delays no other. Each round measures them idle and
disturbed, and ratios are of the same round.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import ssl
import statistics
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import ONE_PROFILE, case
from benchmarks.child import aside
from benchmarks.rows import Row
from benchmarks.serving import Served, answers, front_door, serving, write_door
from benchmarks.stores import Rows, make_store, pool_of
from scoremux_client import NO_RETRIES, Response, Retries, ScoringClient, Status, Tls, TransportError

VICTIMS = ("triton_python_backend_stub", "tritonserver")
"""Processes that are killed."""
MOST_KILLS_OF_A_START = 2
MICRO_BATCHES = (128, 256, 512, 1024, 2048)
RAMP_S = 3.0
"""From the start of a disturbance to the first measurement."""
SIZES = (1, 8, 64, 512)
"""Rows of a greedy token's requests."""
ABANDONED, ABANDONED_ROWS, MOST_S = 1000, 512, 600.0
Send = Callable[[Response], object]

SECONDS: dict[str, Any] = {"type": float, "default": 20.0, "help": "how long each phase lasts (default: %(default)s)"}


def job(stop: threading.Event, url: str, corpus: str, task: str | None = None) -> int:
    """Score rows, of one task or of all, as a batch job with 8 requests in flight until `stop`; return their number."""
    draw, scored = random.Random(1), 0
    pool = [(task or own, text) for own, text in pool_of(corpus)]

    def rows() -> Iterator[Response]:
        while not stop.is_set():
            yield Response(*draw.choice(pool))

    with ScoringClient(url, batch=True, window=8, deduplicate=False, retries=Retries(patience_s=60)) as client:
        for _ in client.score_iter(rows()):
            scored += 1
    return scored


def greed(stop: threading.Event, port: int, ca: str, token: str, corpus: str, threads: int) -> dict[str, int]:
    """Send requests of any size over gRPC and HTTP, half of which are abandoned, until `stop`; count how they end."""
    import httpx
    import tritonclient.grpc as triton

    pool, counts, lock = pool_of(corpus), {"answered": 0, "refused": 0, "abandoned": 0}, threading.Lock()
    context, headers = ssl.create_default_context(cafile=ca), {"authorization": f"Bearer {token}"}

    def send(seed: int) -> None:
        draw = random.Random(seed)
        grpc = triton.InferenceServerClient(f"localhost:{port}", ssl=True, root_certificates=ca)
        http = httpx.Client(verify=context, headers=headers, trust_env=False)
        while not stop.is_set():
            rows = draw.choices(pool, k=draw.choice(SIZES))
            patience_s = draw.uniform(0.02, 2.0) if draw.random() < 0.5 else 120.0
            columns = {"TASK": [task for task, _ in rows], "TEXT": [text for _, text in rows]}
            try:
                if draw.random() < 0.5:
                    tensors = [tensor(name, values) for name, values in columns.items()]
                    grpc.infer("scorer", tensors, client_timeout=patience_s, headers=headers)
                    end = "answered"
                else:
                    inputs = [
                        {"name": name, "datatype": "BYTES", "shape": [len(rows), 1], "data": values}
                        for name, values in columns.items()
                    ]
                    url = f"https://localhost:{port}/v2/models/scorer/infer"
                    status = http.post(url, json={"inputs": inputs}, timeout=patience_s).status_code
                    end = "answered" if status == 200 else "refused"
            except httpx.HTTPError:
                end = "abandoned"
            except triton.InferenceServerException as error:
                end = "abandoned" if "Deadline" in str(error) else "refused"
            with lock:
                counts[end] += 1
            if end == "refused":
                stop.wait(0.05)  # at once would measure how fast a door refuses

    with ThreadPoolExecutor(threads) as callers:
        list(callers.map(send, range(threads)))
    return counts


def abandon(stop: threading.Event, url: str, corpus: str, done: str) -> None:
    """Send requests over gRPC and cancel them once all are sent; make the file `done` then."""
    import tritonclient.grpc as triton

    rows = random.Random(4).choices(pool_of(corpus), k=ABANDONED_ROWS)
    tensors = [tensor("TASK", [task for task, _ in rows]), tensor("TEXT", [text for _, text in rows])]
    with triton.InferenceServerClient(url) as client:
        for call in [client.async_infer("scorer", tensors, lambda **_: None) for _ in range(ABANDONED)]:
            call.cancel()
        Path(done).touch()
        stop.wait()


def tensor(name: str, values: Sequence[str]) -> Any:
    """Return an input of BYTES."""
    import tritonclient.grpc as triton

    made = triton.InferInput(name, [len(values), 1], "BYTES")
    made.set_data_from_numpy(np.array([[value.encode()] for value in values], np.object_))
    return made


@dataclass(frozen=True)
class Lone:
    """Latencies of rows that were sent one by one, in ms, and how many had no score."""

    ms: list[float]
    failed: int

    def at(self, quantile: float) -> float:
        return float(np.quantile(self.ms, quantile))


def send_lone(sends: Sequence[Send], pool: Rows, rate: float, seconds: float, seed: int) -> Lone:
    """Send lone rows by a Poisson process, by turns in each way; time each from when it was due."""
    draw, due = random.Random(seed), time.perf_counter()
    calls: list[Future[float | None]] = []

    def timed(send: Send, row: Response, at: float) -> float | None:
        try:
            send(row)
        except TransportError:
            return None
        return 1e3 * (time.perf_counter() - at)

    with ThreadPoolExecutor(64) as callers:
        end = due + seconds
        while (due := due + draw.expovariate(rate)) < end:
            time.sleep(max(0.0, due - time.perf_counter()))
            send = sends[len(calls) % len(sends)]
            calls.append(callers.submit(timed, send, Response(*draw.choice(pool)), due))
        took = [call.result() for call in calls]
    return Lone([ms for ms in took if ms is not None], took.count(None))


def computed_tokens(server: Served) -> float:
    """Return how many padded tokens the scorer has begun to compute."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("scoremux_share_tokens_total{"))


def one_by_one(client: ScoringClient) -> Send:
    return lambda row: client.score([row])


LONE = "idle p50 ms = idle_p50_ms:.1f; idle p99 ms = idle_p99_ms:.1f; p50 ms = p50_ms:.1f; p99 ms = p99_ms:.1f"


@case(
    columns=(
        f"data; profile; tokens a micro-batch = micro_batch; {LONE}; p99, times idle = p99_ratio:.1f; "
        "job, of alone = job_ratio:.2f; job rows/s = job_rows_per_s:,.0f; load = machine_load:.1f"
    ),
    keys="data profile micro_batch",
    options={
        **ONE_PROFILE,
        "--micro-batches": {"type": int, "nargs": "*", "default": list(MICRO_BATCHES)},
        "--rate": {"type": float, "default": 20.0, "help": "lone rows a second (default: %(default)s)"},
        "--seconds": SECONDS,
    },
    defaults={"rounds": 2},
)
def background(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """A batch job with 8 requests in flight beside lone rows, by size of micro-batch."""
    repository, pool, seconds = make_store(work, arguments.data), pool_of(arguments.data), arguments.seconds
    for tokens in arguments.micro_batches:
        rounds = []
        sized = ("--profile", arguments.profile, "--set", f"micro_batch_tokens={tokens}")
        with serving(repository, work / "serve.log", *sized) as server, ScoringClient(server.grpc_url) as client:
            ways = [one_by_one(client)]
            send_lone(ways, pool, arguments.rate, RAMP_S, 99)
            for number in range(arguments.rounds):
                before = computed_tokens(server)
                idle = send_lone(ways, pool, arguments.rate, seconds, number)
                of_lone = computed_tokens(server) - before
                with aside("benchmarks.contention:job", server.grpc_url, arguments.data) as scored:
                    time.sleep(2 * RAMP_S)
                    first, started = computed_tokens(server), time.perf_counter()
                    time.sleep(seconds)
                    middle, paused = computed_tokens(server), time.perf_counter()
                    beside = send_lone(ways, pool, arguments.rate, seconds, number)
                    last, ended = computed_tokens(server), time.perf_counter()
                alone = (middle - first) / (paused - started)
                rounds.append((idle, beside, (last - middle - of_lone) / (ended - paused) / alone, scored.result))
                print(f"{tokens}: {idle.at(0.99):.0f} → {beside.at(0.99):.0f} ms, {rounds[-1][2]:.2f}", file=sys.stderr)
        yield {
            "data": arguments.data,
            "profile": arguments.profile,
            "micro_batch": tokens,
            **compared([(idle, beside) for idle, beside, _, _ in rounds]),
            "job_ratio": statistics.median(ratio for _, _, ratio, _ in rounds),
            "job_rows_per_s": sum(scored for *_, scored in rounds) / (len(rounds) * (2 * seconds + 2 * RAMP_S)),
            "rate": arguments.rate,
        }


def compared(rounds: Sequence[tuple[Lone, Lone]]) -> dict[str, Any]:
    """Return the medians over rounds of lone rows idle and disturbed, and of the rounds' own ratios."""
    figures: dict[str, Any] = {"rounds": len(rounds), "machine_load": os.getloadavg()[0]}
    for name, quantile in (("p50", 0.5), ("p99", 0.99)):
        figures[f"idle_{name}_ms"] = statistics.median(idle.at(quantile) for idle, _ in rounds)
        figures[f"{name}_ms"] = statistics.median(beside.at(quantile) for _, beside in rounds)
        figures[f"{name}_ratio"] = statistics.median(b.at(quantile) / a.at(quantile) for a, b in rounds)
    return {**figures, "lone_rows": sum(len(b.ms) for _, b in rounds), "failed": sum(b.failed for _, b in rounds)}


@case(
    columns=(
        f"data; profile; protocol; {LONE}; p99, times idle = p99_ratio:.1f; failed lone rows = failed; "
        "requests of the other token = answered; refused; abandoned; load = machine_load:.1f"
    ),
    keys="data profile protocol",
    options={
        **ONE_PROFILE,
        "--rate": {"type": float, "default": 5.0, "help": "lone rows a second (default: %(default)s)"},
        "--threads": {"type": int, "default": 24, "help": "of the other token (default: %(default)s)"},
        "--seconds": {**SECONDS, "default": 40.0},
    },
    defaults={"rounds": 2},
)
def neighbours(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Lone rows of one token while another is at its limits, with any mix of sizes and disconnects, behind the door."""
    repository, pool = make_store(work, arguments.data), pool_of(arguments.data)
    door, access = write_door(work / "door", ("greedy", "lone"))
    port, tls = access["port"], Tls(root_certificates=access["ca"])
    options = ("--profile", arguments.profile, "--set", f"grant_key_file={door.with_name('grant.key')}")
    with serving(repository, work / "serve.log", *options) as served, contextlib.ExitStack() as stack:
        at = {"grpc": served.grpc, "http": served.http, "ready": served.watch}
        stack.enter_context(front_door(door, [{key: f"127.0.0.1:{port}" for key, port in at.items()}]))
        clients = {
            protocol: stack.enter_context(
                ScoringClient(f"{scheme}://localhost:{port}", tls=tls, token=access["lone"], retries=NO_RETRIES)
            )
            for protocol, scheme in (("grpc", "grpcs"), ("http", "https"))
        }
        ways, rounds = {name: [one_by_one(client)] for name, client in clients.items()}, []
        ends: dict[str, int] = {}
        for way in ways.values():
            send_lone(way, pool, arguments.rate, RAMP_S, 99)
        for number in range(arguments.rounds):

            def measure(number: int = number) -> dict[str, Lone]:
                with ThreadPoolExecutor(2) as both:  # each protocol at half the rate, at once
                    results = {
                        name: both.submit(send_lone, way, pool, arguments.rate / 2, arguments.seconds, number)
                        for name, way in ways.items()
                    }
                    return {name: result.result() for name, result in results.items()}

            idle = measure()
            limits = (int(port), access["ca"], access["greedy"], arguments.data, arguments.threads)
            with aside("benchmarks.contention:greed", *limits) as sent:
                time.sleep(2 * RAMP_S)
                rounds.append((idle, measure()))
            ends = {end: ends.get(end, 0) + count for end, count in sent.result.items()}
            print(
                f"{[{n: f'{lone.at(0.99):.0f} ms' for n, lone in one.items()} for one in rounds[-1]]}", file=sys.stderr
            )
    for name in ways:
        figures = compared([(idle[name], beside[name]) for idle, beside in rounds])
        setting = {"data": arguments.data, "profile": arguments.profile, "protocol": name, "threads": arguments.threads}
        yield {**setting, **figures, **ends}


@case(
    columns=(
        "data; profile; requests; idle ms = idle_ms:.1f; after, ms = after_ms:.1f; most, ms = most_ms:.1f; "
        "load = machine_load:.1f"
    ),
    keys="data profile",
    options=ONE_PROFILE,
    defaults={"rounds": 3},
)
def abandoned(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """A lone row after 1,000 abandoned gRPC requests of 512 rows, which a process of its own sends and gives up."""
    repository, pool = make_store(work, arguments.data), pool_of(arguments.data)
    idle_ms, after_ms = list[float](), list[float]()
    with (
        serving(repository, work / "serve.log", "--profile", arguments.profile) as server,
        ScoringClient(server.grpc_url, timeout_s=MOST_S) as client,
    ):
        ways = [one_by_one(client)]
        send_lone(ways, pool, 20, RAMP_S, 99)
        for number in range(arguments.rounds):
            idle_ms += send_lone(ways, pool, 20, 5, number).ms
            done = work / f"abandoned-{time.time_ns()}"
            with aside("benchmarks.contention:abandon", server.grpc_url, arguments.data, str(done)):
                while not done.exists():
                    time.sleep(0.001)
                started = time.perf_counter()
                client.score([Response(*pool[number])])
                after_ms.append(1e3 * (time.perf_counter() - started))
            print(f"{statistics.median(idle_ms):.1f} → {after_ms[-1]:.1f} ms", file=sys.stderr)
            time.sleep(RAMP_S)
    figures = {"idle_ms": statistics.median(idle_ms), "after_ms": statistics.median(after_ms), "most_ms": max(after_ms)}
    setting = {"data": arguments.data, "profile": arguments.profile, "requests": ABANDONED}
    yield {**setting, **figures, "machine_load": os.getloadavg()[0]}


@case(
    columns=(
        "data; profile; minutes = minutes:g; kills; answered = answered:,; given back with an error = refused:,; "
        "lost; twice; other than alone = changed; condemned; load = machine_load:.1f"
    ),
    keys="data profile minutes",
    options={
        **ONE_PROFILE,
        "--minutes": {"type": float, "default": 10.0},
        "--every": {"type": float, "default": 20.0, "help": "seconds between kills (default: %(default)s)"},
    },
)
def kills(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Rows lost, answered twice and condemned (SERVER_DIED, for an hour at least) while stubs and Tritons are killed.

    Beside lone rows and a batch job. A row is lost if its request ended without an outcome of it and without an error.
    """
    repository, pool = make_store(work, arguments.data), pool_of(arguments.data)[:2000]
    counts = dict.fromkeys(("answered", "refused", "lost", "twice", "changed"), 0)
    lock, stop = threading.Lock(), threading.Event()
    draw, killed, condemned = random.Random(6), 0, set[int]()
    with serving(repository, work / "serve.log", "--profile", arguments.profile) as server:
        retries = Retries(patience_s=120)
        with ScoringClient(server.grpc_url, retries=retries) as client:
            alone = [(s.level, s.probabilities) for s in client.score([Response(*row) for row in pool])]

        def score(number: int, url: str, rows: int, batch: bool) -> None:
            choose = random.Random(number)
            with ScoringClient(url, retries=retries, batch=batch, deduplicate=False) as client:
                while not stop.is_set():
                    places = [choose.randrange(len(pool)) for _ in range(rows)]
                    asked = [Response(*pool[place], str(number)) for number, place in enumerate(places)]
                    try:
                        scored = client.score(asked)
                    except TransportError as error:
                        with lock:
                            counts["refused"] += len(error.rows) or rows
                        continue
                    pairs = zip(scored, places, strict=False)
                    with lock:
                        counts["answered"] += len({one.id for one in scored})
                        counts["twice"] += len(scored) - len({one.id for one in scored})
                        counts["lost"] += len({row.id for row in asked} - {one.id for one in scored})
                        for one, place in pairs:
                            counts["changed"] += (one.level, one.probabilities) != alone[place]
                            if one.status == Status.SERVER_DIED:
                                condemned.add(place)

        loads = [(1, False)] * 4 + [(64, False), (512, False), (1500, True)]
        urls = (server.grpc_url, server.http_url)
        threads = [
            threading.Thread(target=score, args=(number, urls[number % 2], *load)) for number, load in enumerate(loads)
        ]
        for thread in threads:
            thread.start()
        ends, during_starts = time.monotonic() + 60 * arguments.minutes, 0
        while (left_s := ends - time.monotonic()) > 0:
            time.sleep(min(left_s, draw.uniform(0.5, 1.5) * arguments.every))
            # A server that dies five times in a row before it works ends itself, as it should.
            during_starts = 0 if answers(f"http://127.0.0.1:{server.watch}/readyz") else during_starts + 1
            if during_starts > MOST_KILLS_OF_A_START:
                continue
            victims = server.named(draw.choice(VICTIMS))
            for victim in victims[:1]:
                victim.send_signal(signal.SIGKILL)
                killed += 1
        stop.set()
        for thread in threads:
            thread.join()
    setting = {"data": arguments.data, "profile": arguments.profile, "minutes": arguments.minutes}
    yield {**setting, "kills": killed, **counts, "condemned": len(condemned), "machine_load": os.getloadavg()[0]}
