"""The front door's file, and the haproxy.cfg made of it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from doors import Place, backend_of, needs_haproxy
from scoremux_server.errors import SetupError
from scoremux_server.front_door import door
from scoremux_server.front_door.config import I_KNOW, Backend, FrontDoorConfig
from scoremux_server.front_door.haproxy import find_program
from scoremux_server.profile import Profile
from scoremux_server.triton.endpoints import Endpoints

BACKENDS = [
    backend_of(Endpoints(8001, 8000, 8002, "::", 8090, "0.0.0.0"), "a"),
    Backend(name="b", grpc="127.0.0.1:8001", http="[::1]:8000", ready="127.0.0.1:8090"),
]


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"colour": 1}, "unknown key colour; the keys are address, port"),
        ({"port": 0}, "port: Input should be greater"),
        ({"address": "0.0.0.0 ssl"}, "address: String should match"),
        ({"certificate": "none.pem"}, "certificate: .*none.pem is missing"),
        ({"tokens": "none.json"}, "none.json is missing; to make one: scoremux tokens add NAME --tokens /.*"),
        ({"grant_key": "none.key"}, "grant_key: .*none.key is missing; to make one: openssl rand -hex 32 > /"),
        ({"i_know": "yes"}, "i_know: Input should be '' or '24.10 has remote code execution holes'"),
        ({"threads": 2}, "unknown key threads"),
        ({"metrics_port": 9101}, "unknown key metrics_port"),
        ({"backends": [{"name": "x"}]}, "backends.0.grpc: Field required"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, keys: dict[str, Any], sentence: str) -> None:
    place = Place(tmp_path)
    backends = keys.pop("backends", None)
    place.configure(**keys)
    if backends:
        place.file.write_text(place.file.read_text() + '\n[[backends]]\nname = "x"\n')
    with pytest.raises(SetupError, match=sentence) as refused:
        FrontDoorConfig.read(place.file)
    assert "door.toml" in str(refused.value)


@pytest.mark.parametrize("change", [{"name": "b"}, {"grpc": "x:1 check"}, {"ready": "x"}, {"more": 1}])
def test_wrong_backends_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    place = Place(tmp_path, BACKENDS)
    with place.file.open("a") as file:
        made = {"name": "c", "grpc": "c:1", "http": "c:2", "ready": "c:3", **change}
        file.write("\n[[backends]]\n" + "\n".join(f"{key} = {value!r}" for key, value in made.items()))
    with pytest.raises(SetupError, match="backends"):
        FrontDoorConfig.read(place.file)


@needs_haproxy
@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"address": "::", "client_ca": "ca.pem"},
        {"address": "0.0.0.0", "log_all": True, "request_bytes": 64 << 20},
        {"address": "0.0.0.0", "i_know": I_KNOW},
    ],
)
def test_haproxy_takes_what_is_rendered(tmp_path: Path, keys: dict[str, Any]) -> None:
    place = Place(tmp_path, BACKENDS, **keys)
    folder = tmp_path / "the run"
    door.prepare(place.file, folder)
    text = (folder / "haproxy.cfg").read_text()
    assert "refuse " not in text.partition("frontend door")[2]
    assert place.everything not in text + (folder / "tokens.map").read_text()
    assert ("verify required" in text) == ("client_ca" in keys)


def without_a_key(place: Place) -> None:
    place.file.write_text("\n".join(line for line in place.file.read_text().splitlines() if line[:3] != "key"))


def with_authorities(place: Place, text: str) -> None:
    (place.folder / "no.pem").write_text(text)
    place.configure(client_ca="no.pem")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda p: (p.folder / "door.key").write_text("x"), "certificate: {}/door.pem cannot be used with its key"),
        (lambda p: (p.folder / "door.pem").write_text("x"), "certificate: {}/door.pem cannot be used with its key"),
        (lambda p: p.configure(certificate="ca.pem"), "certificate: {}/ca.pem .* with its key: KEY_VALUES_MISMATCH"),
        (without_a_key, "certificate: {}/door.pem cannot be used with its key"),
        (lambda p: with_authorities(p, ""), "client_ca: {}/no.pem cannot be used"),
        (
            lambda p: (p.folder / "door.key").chmod(0),
            "certificate: {}/door.pem .* with its key: Permission denied",
        ),
    ],
)
def test_useless_certificate_is_named(tmp_path: Path, spoil: Callable[[Place], Any], sentence: str) -> None:
    place = Place(tmp_path, BACKENDS)
    spoil(place)
    if "Permission" in sentence and os.geteuid() == 0:
        pytest.skip("root may read everything")
    with pytest.raises(SetupError, match=f"{place.file}: {sentence.format(tmp_path)}"):
        FrontDoorConfig.read(place.file).check_pems(place.file)


def test_door_without_backends_is_before_the_triton_of_serve_and_needs_haproxy(tmp_path: Path) -> None:
    place, profile = Place(tmp_path), Profile()
    ports = Endpoints(profile.grpc_port, profile.http_port, profile.metrics_port, watch=profile.watch_port)
    (local,) = FrontDoorConfig.read(place.file).backends
    assert local.model_copy(update={"name": "own", "plaintext": True}) == backend_of(ports)
    with pytest.raises(SetupError, match=r"needs HAProxy, which is not installed: apt-get install haproxy"):
        find_program(str(tmp_path))


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        ("HAProxy version 2.6.12-1", "is version 2.6: apt-get"),
        ("HAProxy version 3.0.1\n+LUA", "without OPENSSL"),
        ("HAProxy version 3.0.1\n+OPENSSL", "without LUA"),
        ("", "of unknown version"),
    ],
)
def test_a_haproxy_that_will_not_do_is_named(tmp_path: Path, about: str, sentence: str) -> None:
    program = tmp_path / "haproxy"
    program.write_text(f"#!/bin/sh\ncat <<END\n{about}\nEND\n")
    program.chmod(0o755)
    with pytest.raises(SetupError, match=sentence):
        find_program(str(tmp_path))
