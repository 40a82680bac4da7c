"""The front door of chart and systemd: HAProxy accepts its configuration, its secrets are where it looks, it drains."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest

from charts import Objects, door, pod, render, server, settings
from doors import Place, backend_of, needs_haproxy
from making import ROOT
from ports import free_endpoints
from scoremux_client import Response, ScoringClient
from scoremux_server.front_door.config import FrontDoorConfig
from scoremux_server.front_door.door import FrontDoor
from serving import SCOREMUX, code
from waiting import until

FILES = {
    "tls.crt": "door.pem",
    "tls.key": "door.key",
    "tokens.json": "tokens.json",
    "grant.key": "grant.key",
    "ca.crt": "ca.pem",
}
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


def test_server_and_sidecar_read_the_same_key_and_the_sidecar_the_volumes_configuration() -> None:
    objects = render({})
    for container, word in (
        (server(objects), "--set=grant_key_file={}/grant.key"),
        (door(objects), "{}/door.toml"),
    ):
        (mount,) = [one for one in container["volumeMounts"] if one["name"] == "door"]
        assert word.format(mount["mountPath"]) in container["args"] and mount["readOnly"] is True
    assert {mount["mountPath"] for mount in door(objects)["volumeMounts"] if not mount.get("readOnly")} == {"/tmp"}
    assert door(objects)["image"] == server(objects)["image"]
    assert sources(objects) == {
        "scoremux-tls": {"tls.crt": "tls.crt", "tls.key": "tls.key"},
        "scoremux-tokens": {"tokens.json": "tokens.json", "grant.key": "grant.key"},
    }
    without = render({"door": {"enabled": False}})
    assert not any("grant" in word for word in server(without)["args"]) and "initContainers" not in pod(without)
    assert ("ConfigMap", "essay-door") not in without and "essay-tls" not in str(pod(without))


@needs_haproxy
@pytest.mark.parametrize("authority", ["", "authorities"])
def test_haproxy_accepts_it_and_asks_for_certificates_if_told_to(authority: str, tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.file = mounted(render({"door": {"clientCaSecret": authority}}), place, tmp_path / "mounted")
    with place.open(wait=False), place.connect() as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if authority:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                connection.recv(100)
        else:
            assert connection.recv(100).startswith(b"HTTP/1.1 401")


@needs_haproxy
def test_the_largest_requests_of_all_connections_fit_into_the_memory_of_the_sidecar(tmp_path: Path) -> None:
    objects = render({})
    file = mounted(objects, Place(tmp_path), tmp_path / "mounted")
    found = {
        key: int(value) for key, value in re.findall(r"^ +([\w.-]+) (\d+)$", FrontDoor(file).rendered(), re.MULTILINE)
    }
    # Measured with HAProxy 3.0: 70 MiB for itself, and 2.03 MiB for each upload of 2 MB.
    requests = found["maxconn"] * found["tune.h2.fe.max-concurrent-streams"]
    assert (128 << 20) + requests * (found["tune.bufsize"] + (128 << 10)) <= 1 << 30
    assert door(objects)["resources"]["limits"]["memory"] == "1Gi"
    config = FrontDoorConfig.read(file)
    assert config.connections_per_address < config.connections == found["maxconn"]  # no address can take them all


@pytest.mark.parametrize("values", [{}, {"door": {"enabled": False}}])
def test_a_pod_serves_while_kubernetes_takes_it_out_of_the_endpoints_and_then_drains(values: dict[str, Any]) -> None:
    objects = render(values)
    given = dict(setting.split("=", 1) for setting in settings(objects))
    word, pause_s = server(objects)["lifecycle"]["preStop"]["exec"]["command"]
    drain_s = int(given["drain_s"])
    assert word == "sleep" and int(pause_s) >= 10 and drain_s >= 60
    # Beside the drain the server needs 2 s to refuse new rows, 5 s for Triton and 5 s for killed processes. Then
    # Kubernetes stops the sidecar.
    assert pod(objects)["terminationGracePeriodSeconds"] >= int(pause_s) + drain_s + 12 + 10


def test_systemd_restarts_the_door_and_lets_it_finish_its_requests() -> None:
    unit = ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "server_config" / "systemd" / "scoremux-front-door.service")
    service = unit["Service"]
    assert service["ExecStart"].split()[1:] == ["front-door", "/etc/scoremux/door.toml"]
    assert service["Restart"] == "always" and service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    # Else systemd would send SIGTERM to HAProxy too, which ends at once then.
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) > FrontDoorConfig.model_fields["drain_s"].default


@pytest.mark.nightly
@pytest.mark.triton
@needs_haproxy
def test_the_pods_commands_serve_through_the_door_and_write_nothing_to_the_volume(
    small_repository: Path, tmp_path: Path
) -> None:
    place, ports, objects = Place(tmp_path), free_endpoints(), render({})
    file, before = mounted(objects, place, tmp_path / "mounted"), sorted(small_repository.rglob("*"))
    words = [word.replace("/etc/scoremux", str(file.parent)) for word in server(objects)["args"]]
    words = [word.replace("/repository/profile.toml", "cpu-reference") for word in words]
    words = [word.replace("/repository", str(small_repository)) for word in words]
    own = {f"{name}_port": getattr(ports, name) for name in ("grpc", "http", "metrics", "watch")}
    own |= {"triton": "bundled", "metrics_address": "127.0.0.1", "watch_address": "127.0.0.1"}
    words += [f"--set={key}={value}" for key, value in own.items()]
    place.file, place.backends = file, [backend_of(ports)]
    with file.open("a") as text:
        text.write(place.backend_tables())
    with (tmp_path / "output").open("wb") as output:
        commands = ([SCOREMUX, *words], [SCOREMUX, *door(objects)["args"][:1], str(file)])
        started = [subprocess.Popen(command, stdout=output, stderr=output) for command in commands]
    try:
        until(lambda: code(f"{ports.watch_url}/readyz") == 200, started[0])
        keys = {"tls": place.tls, "token": place.everything}
        with ScoringClient(place.url("grpcs"), **keys) as patient:  # HAProxy asks twice a second whether Triton serves
            assert patient.score([Response("t-4", "router")])[0].ok
    finally:
        for process in started:
            process.terminate()
    assert [process.wait(120) for process in started] == [0, 0]
    assert sorted(small_repository.rglob("*")) == before
