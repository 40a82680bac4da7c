"""A student's text is in no log, no metric and no error message, whatever happens to it on its way."""

import http.client
import json
import os
import signal
import ssl
import subprocess
import threading
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from decided import make_decision, write_decision
from doors import Place, backend_of, bearer, granted, needs_haproxy, serving
from making import adapter_tensors, make_adapter
from scoremux_client import NO_RETRIES, Response, ScoringClient, Status, TransportError
from scoremux_client.contract import MAX_TEXT_BYTES
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.store.store import Store
from scoremux_server.errors import SetupError
from scoremux_server.triton import processes
from serving import SCOREMUX

pytestmark = needs_haproxy
SECRET = "zebraquagga7731"
TEXT = f"the router is a {SECRET}"
PROVOKED = {
    "/readyz": '_cause": "the stub of scorer is dead',
    "the watcher's reports": "the stub of scorer is dead; restarting Triton",
    "the watcher's metrics": "scoremux_restarts_total 1",
    "errors at the stub's death": "Error",
    "a reload": "cannot be read",
    "requests in haproxy.log": "route=infer-http",
    "triton.log": "scorer",
}
"""What is looked through holds what was provoked, or it would prove nothing."""


@pytest.fixture
def repository(own_repository: Path, backbone: Backbone, tmp_path: Path) -> Path:
    """With a task whose logits are not finite, a damaged package, a decision, and an item with traits."""
    tensors = adapter_tensors(backbone.spec, 4, 5, seed=1)
    tensors["base_model.model.classifier.weight"] = np.full_like(tensors["base_model.model.classifier.weight"], 3e38)
    tensors["base_model.model.classifier.weight"][::2] *= -1
    folder = make_adapter(tmp_path / "huge", backbone.spec, "huge", tensors=tensors)
    store = Store(own_repository / "store")
    decided = write_decision(make_adapter(tmp_path / "decided", backbone.spec, "decided", seed=3), make_decision())
    traits = {"levels": None, "traits": {"a": {"levels": [0, 1]}, "b": {"levels": [0, 1, 2]}}}
    item = make_adapter(tmp_path / "item", backbone.spec, "item", seed=4, task_json=traits)
    damaged = make_adapter(tmp_path / "damaged", backbone.spec, "damaged", seed=2)
    store.add([folder, decided, item, damaged], backbone)
    (store.package_folder(store.manifest().tasks["damaged"]) / "adapter_model.safetensors").write_bytes(b"")
    return own_repository


def every_status() -> list[Response]:
    return [
        Response("t-1", TEXT),
        Response("nobody", TEXT),
        Response(f"no task {SECRET}", TEXT),
        Response("t-1", TEXT.encode() + b"\xff"),
        Response("t-1", (TEXT + " ") * (MAX_TEXT_BYTES // len(TEXT) + 1)),
        Response("huge", TEXT),
        Response("damaged", TEXT),
        Response("t-1", ""),
        Response("decided", ""),
        Response("decided", TEXT),
        Response("item", TEXT),
    ]


def spoiled() -> Iterator[bytes]:
    body = {
        "inputs": [
            {"name": name, "datatype": "BYTES", "shape": [1, 1], "data": [value]}
            for name, value in (("TEXT", TEXT), ("TASK", "t-1"))
        ]
    }
    whole = json.dumps(body)
    yield whole[:-3].encode()
    yield whole.replace(f'"{TEXT}"', f'"{TEXT}').encode()
    yield whole.replace(f'["{TEXT}"]', f'"{TEXT}"').encode()
    yield whole.replace(f'["{TEXT}"]', f'{{"x": "{TEXT}"}}').encode()
    yield whole.replace("[1, 1]", "[3, 1]").encode()
    yield whole.replace("BYTES", "INT32").encode()
    yield json.dumps({**body, "id": [TEXT]}).encode()
    yield TEXT.encode()


def post(connection: http.client.HTTPConnection, path: str, body: bytes, headers: dict[str, str]) -> str:
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return f"{answer.status} {answer.headers} {answer.read().decode('utf-8', 'replace')}"
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return repr(error)


def failure(client: ScoringClient, rows: list[Response]) -> str:
    with pytest.raises(TransportError) as caught:
        client.score(rows)
    return "".join(traceback.format_exception(caught.value)) + repr(caught.value)


def fetched(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return str(error.read().decode())


@contextmanager
def under_way(url: str) -> Iterator[list[str]]:
    """Let rows with the text in them be computed all the time; yield all that a program could print of their errors."""
    stop, errors = threading.Event(), list[str]()

    def send() -> None:
        with ScoringClient(url, retries=NO_RETRIES, headers=granted()) as client:
            while not stop.wait(0.002):
                try:
                    client.score([Response("t-1", f"{TEXT} {number}") for number in range(64)])
                except TransportError as error:
                    errors.append("".join(traceback.format_exception(error)) + repr(error))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield errors
    finally:
        stop.set()
        thread.join()


def kill_the_stub(pid: int) -> None:
    (stub,) = processes.stubs(pid)
    os.kill(stub, signal.SIGKILL)


def looked_at_until(look: Callable[[], str], happened: Callable[[], bool]) -> str:
    """Return all that was seen until something happened, and after it."""
    seen, deadline = [], time.monotonic() + 90
    while not happened():
        assert time.monotonic() < deadline, seen
        seen.append(look())
        time.sleep(0.05)
    return "\n".join((*seen, look()))


def test_no_log_metric_or_message_has_a_text(repository: Path, tmp_path: Path) -> None:
    said: dict[str, str] = {}
    watched: list[str] = []
    place = Place(tmp_path)
    guest = place.tokens.add("guest", ["t-2"], 0, 1)
    rows = every_status()
    with serving(repository, tmp_path / "triton.log", watched.append, canary_every_s=0.3) as server:
        place.backends = [backend_of(server.endpoints)]
        place.configure(log_all=True, request_bytes=8 << 20)
        with place.open():
            for scheme in ("grpcs", "https"):
                with place.client(scheme, place.everything, retries=NO_RETRIES) as client:
                    statuses = [one.status for one in client.score(rows)]
                    said[f"reprs over {scheme}"] = repr([rows, client.score(rows)]).replace(repr(rows[2].task), "")
                with place.client(scheme, guest, retries=NO_RETRIES) as client:
                    said[f"forbidden over {scheme}"] = repr(forbidden := client.score(rows[:1]))
                    said[f"too large over {scheme}"] = failure(client, [Response("t-2", TEXT * 500_000)])
                with place.client(scheme, SECRET, retries=NO_RETRIES) as client:
                    said[f"no token over {scheme}"] = failure(client, rows[:1])
            context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
            door = http.client.HTTPSConnection("localhost", place.port, context=context, timeout=60)
            triton = http.client.HTTPConnection("127.0.0.1", server.endpoints.http, timeout=60)
            for number, body in enumerate(spoiled()):
                path, headers = "/v2/models/scorer/infer", dict(bearer(place.everything))
                said[f"door {number}"] = post(door, path, body, headers)
                said[f"triton {number}"] = post(triton, path, body, granted() if number % 2 else {})
                said[f"url {number}"] = post(door, f"/{SECRET}?{SECRET}", body, {**headers, "x-text": SECRET})
            watch_url = server.endpoints.watch_url
            with under_way(server.endpoints.grpc_url) as errors:
                kill_the_stub(server.process.pid)
                said["/readyz"] = looked_at_until(
                    lambda: fetched(f"{watch_url}/readyz"), lambda: "works again" in repr(watched)
                )
            said["errors at the stub's death"] = "".join(errors)
            said["/healthz"] = fetched(f"{watch_url}/healthz")
            said["the watcher's metrics"] = fetched(f"{watch_url}/metrics")
            said["triton's metrics"] = fetched(server.endpoints.metrics_url)
            said["requests in haproxy.log"] = place.log.read_text(errors="replace")
            said["the command"] = _score_with_the_command(place, tmp_path)
            place.write_tokens(SECRET)
            with pytest.raises(SetupError) as refused:
                place.reload()
        said["a reload"] = str(refused.value)
    said["the watcher's reports"] = repr(watched)
    said |= {path.name: path.read_text(errors="replace") for path in tmp_path.glob("*.log*")}
    statuses += [one.status for one in forbidden]
    assert set(statuses) == set(Status) - {Status.SERVER_DIED}
    assert not [where for where, text in said.items() if SECRET in text]
    for where, word in PROVOKED.items():
        assert word in said[where], said[where]
    assert SECRET in repr(TEXT) and all(text for where, text in said.items() if not where.endswith(".lock"))


def _score_with_the_command(place: Place, folder: Path) -> str:
    """Run `scoremux score` through the door on good and unreadable rows; return what it prints and rejects."""
    source = folder / "rows.jsonl"
    lines = [
        json.dumps({"task": "t-1", "text": TEXT}),
        f'{{"task": "t-1", "text": "{TEXT}',
        json.dumps({"text": [TEXT]}),
    ]
    source.write_text("\n".join(lines))
    command = [SCOREMUX, "score", str(source), "--out", str(folder / "scored"), "--url", place.url("grpcs")]
    command += ["--root-certificates", str(folder / "ca.pem")]
    environment = {**os.environ, "SCOREMUX_TOKEN": place.everything}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert ran.returncode == 3, ran.stderr
    rejected = [path.read_bytes().decode("latin-1") for path in (folder / "scored" / "_rejected").rglob("*.*")]
    assert rejected
    return ran.stdout + ran.stderr + "".join(rejected)
