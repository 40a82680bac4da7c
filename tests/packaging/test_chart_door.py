"""The chart's front door: HAProxy accepts its configuration, its secrets are where it looks, and it closes last."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from charts import Objects, pod, render, server, settings
from doors import Place, needs_haproxy
from ports import free_endpoints
from scoremux_client import Response, ScoringClient
from scoremux_server.front_door.config import Backend, FrontDoorConfig
from scoremux_server.front_door.door import FrontDoor
from serving import SCOREMUX, code
from waiting import until

FILES = {"tls.crt": "door.pem", "tls.key": "door.key", "tokens.json": "tokens.json", "ca.crt": "ca.pem"}
"""Keys of the secrets, and the files of a test's door with the same content."""


def sources(objects: Objects) -> dict[str, dict[str, str]]:
    """Return the secrets in the door's volume: name → key → file."""
    (volume,) = (one["projected"] for one in pod(objects)["volumes"] if one["name"] == "door")
    assert volume["defaultMode"] == 0o440
    secrets = (source["secret"] for source in volume["sources"] if "secret" in source)
    return {secret["name"]: {item["key"]: item["path"] for item in secret["items"]} for secret in secrets}


def mounted(objects: Objects, place: Place, folder: Path) -> Path:
    """Write the door's volume as Kubernetes does, on an address and a port of the test; return its door.toml."""
    folder.mkdir()
    for items in sources(objects).values():
        for key, path in items.items():
            shutil.copyfile(place.folder / FILES[key], folder / path)
    text = objects["ConfigMap", "essay-door"]["data"]["door.toml"]
    assert 'address = "0.0.0.0"' in text and "port = 8443\n" in text
    (folder / "door.toml").write_text(text.replace("0.0.0.0", "127.0.0.1").replace("8443", str(place.port)))
    return folder / "door.toml"


def test_the_server_starts_the_door_with_the_volumes_configuration() -> None:
    objects = render({})
    (mount,) = [one for one in server(objects)["volumeMounts"] if one["name"] == "door"]
    assert f"--front-door={mount['mountPath']}/door.toml" in server(objects)["args"] and mount["readOnly"] is True
    assert sources(objects) == {
        "scoremux-tls": {"tls.crt": "tls.crt", "tls.key": "tls.key"},
        "scoremux-tokens": {"tokens.json": "tokens.json"},
    }
    without = render({"door": {"enabled": False}})
    assert not any("front-door" in word for word in server(without)["args"])
    assert ("ConfigMap", "essay-door") not in without and "essay-tls" not in str(pod(without))


@needs_haproxy
@pytest.mark.parametrize("authority", ["", "authorities"])
def test_haproxy_accepts_it_and_asks_for_certificates_if_told_to(authority: str, tmp_path: Path) -> None:
    place = Place(tmp_path)
    file = mounted(render({"door": {"clientCaSecret": authority}}), place, tmp_path / "mounted")
    with FrontDoor(file, place.log, Backend.of(free_endpoints()), lambda _: None), place.connect() as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if authority:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                connection.recv(100)
        else:
            assert connection.recv(100).startswith(b"HTTP/1.1 401")


@needs_haproxy
def test_the_largest_requests_of_all_connections_fit_into_the_memory_that_the_values_name(tmp_path: Path) -> None:
    file = mounted(render({}), Place(tmp_path), tmp_path / "mounted")
    haproxy = FrontDoor(file, tmp_path / "log", Backend.of(free_endpoints()), lambda _: None).rendered()
    found = {key: int(value) for key, value in re.findall(r"^ +([\w.-]+) (\d+)$", haproxy, re.MULTILINE)}
    # Measured with HAProxy 3.0: 70 MiB for itself, and 2.03 MiB for each upload of 2 MB.
    requests = found["maxconn"] * found["tune.h2.fe.max-concurrent-streams"]
    assert (128 << 20) + requests * (found["tune.bufsize"] + (128 << 10)) <= 1 << 30
    config = FrontDoorConfig.read(file)
    assert config.connections_per_address < config.connections == found["maxconn"]  # no address can take them all


@pytest.mark.parametrize("values", [{}, {"door": {"enabled": False}}])
def test_a_pod_serves_while_kubernetes_takes_it_out_of_the_endpoints_and_then_drains(values: dict[str, Any]) -> None:
    objects = render(values)
    given = dict(setting.split("=", 1) for setting in settings(objects))
    word, pause_s = server(objects)["lifecycle"]["preStop"]["exec"]["command"]
    drain_s = int(given["drain_s"])
    assert word == "sleep" and int(pause_s) >= 10 and drain_s >= 60
    # Beside the drain the server needs 2 s to refuse new rows, 5 s for Triton and 5 s for killed processes. Then it
    # closes the door, which has been open until then.
    assert pod(objects)["terminationGracePeriodSeconds"] >= int(pause_s) + drain_s + 12 + 10


@pytest.mark.nightly
@pytest.mark.triton
@needs_haproxy
def test_the_pods_command_serves_through_the_door_and_keeps_the_volume(small_repository: Path, tmp_path: Path) -> None:
    place, ports = Place(tmp_path), free_endpoints()
    file, before = mounted(render({}), place, tmp_path / "mounted"), sorted(small_repository.rglob("*"))
    words = [word.replace("/etc/scoremux/door.toml", str(file)) for word in server(render({}))["args"]]
    words = [word.replace("/repository/profile.toml", "cpu-reference") for word in words]
    words = [word.replace("/repository", str(small_repository)) for word in words]
    own = {f"{name}_port": getattr(ports, name) for name in ("grpc", "http", "metrics", "watch")}
    own |= {"triton": "bundled", "metrics_address": "127.0.0.1", "watch_address": "127.0.0.1"}
    words += [f"--set={key}={value}" for key, value in own.items()]
    process = subprocess.Popen([SCOREMUX, *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    logged = threading.Thread(target=process.communicate)
    logged.start()
    try:
        until(lambda: code(f"{ports.watch_url}/readyz") == 200, process)
        keys = {"tls": place.tls, "token": place.everything}
        with ScoringClient(place.url("grpcs"), **keys) as patient:  # HAProxy asks twice a second whether Triton serves
            assert patient.score([Response("t-4", "router")])[0].ok
    finally:
        process.terminate()
        logged.join(60)
    assert process.returncode == 0
    assert sorted(small_repository.rglob("*")) == before
