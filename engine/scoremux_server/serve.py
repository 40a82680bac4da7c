"""A serving machine: Triton, its watcher and the port of its health."""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from scoremux_client.audit_lines import KEEP_LOGS, LEAST_DAYS, read_log
from scoremux_decide.decision import Decision
from scoremux_engine.errors import StoreError
from scoremux_engine.runners.choose import PROFILE
from scoremux_engine.scoring.permission import read_key
from scoremux_engine.store.reader import StoreReader
from scoremux_files.errors import InputError, first_of
from scoremux_files.installed import release
from scoremux_server.front_door.config import DOOR_HEADER, door_mark
from scoremux_server.profile import Profile
from scoremux_server.supervision.health_endpoint import HealthEndpoint
from scoremux_server.supervision.watcher import Watcher
from scoremux_server.triton.endpoints import Endpoints
from scoremux_server.triton.repository import IN_TRITON
from scoremux_server.triton.server import TritonServer

Decisions = dict[str, Decision | None]
"""Task → its `decision.json`, None where it has none."""

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_TASKS_NAMED = 3
_TASKS_READ = 1000


def report(sentence: str, file: int | None = None) -> None:
    """Write a line to standard output, or to a file descriptor; from any thread.

    A line is dropped where a pipe without a reader, a lost terminal or a full disk would make it wait.
    """
    line = f"{sentence}\n".encode("utf-8", "replace")
    with contextlib.suppress(AttributeError, OSError, ValueError):  # None: the program was started without one
        handle = sys.stdout.fileno() if file is None else file
        if select.select([], [handle], [], 0)[1]:
            os.write(handle, line[: select.PIPE_BUF - 1] + b"\n" if len(line) > select.PIPE_BUF else line)


def make_server(repository: Path, profile: Profile, store: Path | None, log: Path | None) -> TritonServer:
    """Return the server that a profile describes. Raises SetupError or GrantError."""
    endpoints = Endpoints.of(profile)
    key = read_key(Path(profile.grant_key_file)) if profile.grant_key_file else None
    return TritonServer(repository, endpoints, store=store, log=log, profile=profile, grant_key=key)


def health_headers(server: TritonServer) -> dict[str, str]:
    """Return the headers by which a front door knows that grants are checked, with which key, by which Triton."""
    key = server.grant_key
    return {DOOR_HEADER: door_mark(key, server.installation.is_safe)} if key else {}


def hints(server: TritonServer) -> Iterator[str]:
    """Yield hints for the operator: who decides, and decisions of another arithmetic."""
    decisions = decisions_of(StoreReader(server.store))
    yield from uncalibrated_hints(decisions, server.profile.uncalibrated)
    yield from decision_hints(server.repository, decisions, server.arithmetic)
    yield from log_hints(server.profile.audit_log)


def log_hints(log: str) -> Iterator[str]:
    """Yield that there is no audit log, or that older lines are gone although they are younger than `LEAST_DAYS`."""
    if not log:
        yield f"note     no audit log (profile: audit_log): {KEEP_LOGS}"
    with contextlib.suppress(InputError):  # a damaged log must not end a server
        if log and (first := next(read_log(Path(log)), None)) and first.values.get("previous"):
            begins = datetime.fromisoformat(first.values["time"].replace("Z", "+00:00"))
            if datetime.now(timezone.utc) - begins < timedelta(LEAST_DAYS):
                yield f"warning  {log} begins on {begins.date()}, and older lines are gone: {KEEP_LOGS}"


def uncalibrated_hints(decisions: Decisions, decider: str) -> Iterator[str]:
    """Yield who decides about tasks without a calibration, where there are any."""
    if without := [task for task, decision in decisions.items() if decision is None]:
        who = "people get all rows" if decider == "human" else "the machine decides all rows"
        yield (
            f"note     no calibration of {_some(without)}: {who} (profile: uncalibrated = {decider!r}); "
            "`scoremux calibrate` lets people read the uncertain ones"
        )


def decision_hints(repository: Path, decisions: Decisions, arithmetic: str) -> Iterator[str]:
    """Yield which decisions were fitted in another arithmetic than a server's, and what can be done about it."""
    fitted_in = {task: decision.arithmetic for task, decision in decisions.items() if decision}
    others = {task: name for task, name in fitted_in.items() if name not in (None, arithmetic)}
    in_triton = arithmetic.startswith(IN_TRITON)
    stood_in = {task: fitted for task, fitted in others.items() if in_triton and fitted.startswith("onnxruntime-")}
    if stood_in:
        yield (
            f"note     decisions of {_some(stood_in)} were fitted in {_some(set(stood_in.values()))}: it stands in for "
            f"the model that Triton serves, whose {arithmetic} `scoremux calibrate` cannot compute"
        )
    if rest := others.keys() - stood_in:
        yield (
            f"warning  decisions were fitted in another arithmetic than {arithmetic}: {_some(rest)}; "
            f"run `scoremux calibrate` again, which computes as {repository / PROFILE} says"
        )


def decisions_of(store: StoreReader) -> Decisions:
    """Return the `decision.json` of live tasks, None where a task has none; of a large store's first tasks."""
    decisions: Decisions = {}
    for task, digest in sorted(store.manifest().tasks.items())[:_TASKS_READ]:
        # Skip a package that was removed meanwhile, or that cannot be read.
        with contextlib.suppress(StoreError, InputError):
            if store.package_folder(digest).is_dir():  # of a bucket's packages, those that are here
                decisions[task] = store.decision(digest)
    return decisions


def _some(names: Collection[str]) -> str:
    return first_of(sorted(names), _TASKS_NAMED)


def run(server: TritonServer) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP. Raises SetupError, StartError or CrashLoopError."""
    stop, endpoints = _stop_event(*_STOP_SIGNALS, signal.SIGHUP), server.endpoints

    def report_ready() -> None:
        report(f"gRPC     {endpoints.grpc_url}")
        report(f"HTTP     {endpoints.http_url}")
        report(f"metrics  {endpoints.metrics_url}")
        report(f"health   {endpoints.watch_url}/readyz")
        report(f"computes {server.arithmetic}")
        for sentence in hints(server):
            report(sentence)
        report(f"log      {server.log}")
        report("ready; Ctrl-C stops")

    if server.profile.selftest == "off":
        report("selftest off: nothing shows that this machine computes the same bits in every batch")
    report(f"starting {server.installation.name}, {release()}")
    watcher = Watcher(server, report)
    with HealthEndpoint(watcher.health, endpoints.watch_address, endpoints.watch, health_headers(server)):
        watcher.run(stop, report_ready)
    report("stopped")


def _stop_event(*numbers: signal.Signals) -> threading.Event:
    """Return an event that these signals set from now on, except those that are ignored (nohup)."""
    stop = threading.Event()
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            # A second signal must not cut the clean-up short: it sets again what is set.
            signal.signal(number, lambda _number, _frame: stop.set())
    return stop
