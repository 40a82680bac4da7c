"""The chart's front door: its configuration is one that the door takes, and fits into its memory."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from charts import CHART, Objects, container, helm, pod, render, yaml
from scoremux_server.front_door.config import FrontDoorConfig
from scoremux_server.front_door.rendering import render as render_haproxy

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MIB = 1 << 20
OWN = 128 * MIB
"""What the door's processes take without a connection, with a margin: 70 MiB were measured."""
CONNECTION = 128 << 10
"""What an upload takes beside the buffer: some 120 KiB were measured."""
KEYS = {
    "requestBytes": "request_bytes",
    "connections": "connections",
    "connectionsPerAddress": "connections_per_address",
    "streams": "streams",
    "threads": "threads",
    "port": "port",
}


def door_toml(objects: Objects) -> dict[str, Any]:
    return tomllib.loads(objects["ConfigMap", "essay-door"]["data"]["door.toml"])


def configured(**door: Any) -> FrontDoorConfig:
    return FrontDoorConfig.model_validate(door_toml(render({"door": door})))


def limited(memory: str | int) -> dict[str, Any]:
    return {"resources": {"limits": {"memory": memory}}}


def test_the_door_outlives_the_server_and_reads_its_configuration() -> None:
    objects = render({"door": {"port": 9443}})
    door = container(objects, "door")
    assert door["restartPolicy"] == "Always" and door in pod(objects)["initContainers"]
    config = door_toml(objects)
    assert FrontDoorConfig.model_validate(config).port == 9443 == door["ports"][0]["containerPort"]
    mounts = tuple(mount["mountPath"] for mount in door["volumeMounts"])
    for path in (config["certificate"], config["key"], config["tokens"], door["args"][1]):
        assert path.startswith(mounts)
    (backend,) = config["backends"]
    ports = {one["name"]: one["containerPort"] for one in container(objects, "server")["ports"]}
    assert (backend["grpc"], backend["http"], backend["ready"]) == tuple(
        f"127.0.0.1:{ports[name]}" for name in ("grpc", "http", "watch")
    )


def test_values_become_the_doors_keys() -> None:
    config = configured(requestBytes=1 << 20, connections=40, connectionsPerAddress=7, streams=6)
    assert (config.request_bytes, config.connections, config.connections_per_address) == (1 << 20, 40, 7)
    assert config.streams == 6
    assert config.client_ca is None


def test_its_image_may_be_pulled_otherwise_than_the_servers() -> None:
    objects = render({"door": {"image": {"pullPolicy": "Always"}}})
    assert container(objects, "door")["imagePullPolicy"] == "Always"
    assert container(render({"image": {"pullPolicy": "Never"}}), "door")["imagePullPolicy"] == "Never"


def test_clients_of_one_address_cannot_take_every_connection() -> None:
    assert configured().connections_per_address < configured().connections


def test_authorities_come_from_a_secret_of_their_own() -> None:
    objects = render({"door": {"clientCa": {"secret": "authorities", "key": "root.pem"}}})
    (mount,) = [one for one in container(objects, "door")["volumeMounts"] if one["name"] == "client-ca"]
    (volume,) = [one["secret"] for one in pod(objects)["volumes"] if one["name"] == "client-ca"]
    assert volume["secretName"] == "authorities" and mount["readOnly"] is True
    (item,) = volume["items"]
    assert item["key"] == "root.pem"
    config = FrontDoorConfig.model_validate(door_toml(objects))
    assert config.client_ca == Path(mount["mountPath"]) / item["path"]
    assert "client-ca.pem verify required" in render_haproxy(config, config.backends, Path("/run"))


def test_without_authorities_nothing_of_them_is_there() -> None:
    objects = render({})
    assert "client_ca" not in door_toml(objects)
    assert "client-ca" not in {one["name"] for one in pod(objects)["volumes"]}


def test_a_largest_request_on_each_stream_of_each_connection_fits_into_the_limit() -> None:
    config = configured()
    limit = container(render({}), "door")["resources"]["limits"]["memory"]
    haproxy = render_haproxy(config, config.backends, Path("/run"))
    (buffer,) = map(int, re.findall(r"tune\.bufsize (\d+)", haproxy))
    assert limit == "1Gi" and f"maxconn {config.connections}\n" in haproxy
    assert f"max-concurrent-streams {config.streams}\n" in haproxy
    assert f"nbthread {config.threads}\n" in haproxy and f"maxmem {config.threads * 32}\n" in haproxy
    assert OWN + config.connections * config.streams * (buffer + CONNECTION) <= 1 << 30


@pytest.mark.parametrize(
    ("memory", "fit"),
    [("512Mi", 43), ("1Gi", 102), ("0.5Gi", 43), ("1G", 94), ("1000000k", 94), (512 * MIB, 43), ("128Mi", 0)],
)
def test_connections_that_do_not_fit_are_refused_with_the_number_that_does(memory: str | int, fit: int) -> None:
    if fit:
        assert configured(connections=fit, **limited(memory)).connections == fit
    with pytest.raises(Exception, match=rf"connections is {fit + 1}, .*limits.memory .* holds only {fit} with 4 up"):
        configured(connections=fit + 1, **limited(memory))


def test_larger_requests_take_more_memory_and_smaller_ones_less() -> None:
    with pytest.raises(Exception, match=r"holds only 13 with 4 uploads .* of door.requestBytes \(16777216\)"):
        configured(requestBytes=16 * MIB)
    assert configured(requestBytes=16 * MIB, connections=13).request_bytes == 16 * MIB
    assert configured(requestBytes=16 * MIB, connections=55, streams=1).streams == 1
    assert configured(requestBytes=64 << 10, connections=890).connections == 890


@pytest.mark.parametrize("memory", ["lots", "512MiB", "-1Gi", "Gi"])
def test_a_limit_that_is_no_quantity_is_refused(memory: str) -> None:
    with pytest.raises(Exception, match=f"{memory} is no quantity of memory"):
        configured(**limited(memory))


def test_without_a_limit_or_a_door_nothing_is_refused() -> None:
    assert configured(connections=5000, resources={"limits": None}).connections == 5000
    assert ("ConfigMap", "essay-door") not in render({"door": {"enabled": False, "connections": 5000}})


def test_the_schema_has_the_doors_own_bounds() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = schema["properties"]["door"]["properties"]
    keys = FrontDoorConfig.model_json_schema()["properties"]
    for value, key in KEYS.items():
        least = keys[key]["minimum"] if key != "port" else 1024  # a port below takes rights that the pod has not
        assert (values[value]["minimum"], values[value].get("maximum")) == (least, keys[key].get("maximum")), value


@pytest.mark.parametrize(
    ("door", "named"),
    [
        ({"requestBytes": 100}, "requestBytes"),
        ({"requestBytes": 65 << 20}, "requestBytes"),
        ({"connections": 0}, "connections"),
        ({"connectionsPerAddress": "many"}, "connectionsPerAddress"),
        ({"clientCa": {"key": "../ca"}}, "key"),
        ({"clientCa": {"key": ".."}}, "key"),
        ({"clientCa": {"file": "ca"}}, "file"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(door: dict[str, Any], named: str) -> None:
    with helm.Chart.load(CHART) as chart, pytest.raises(Exception, match=named):
        chart.validate_schema(chart.merge_values({"door": door}))
