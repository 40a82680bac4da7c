"""Where the server listens: on loopback, on the ports that were asked for."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

from scoremux_server.errors import SetupError
from scoremux_server.triton.endpoints import Endpoints


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def test_given_ports_are_kept() -> None:
    ports = free_ports(3)
    chosen = Endpoints.choose(*ports)
    assert [chosen.grpc, chosen.http, chosen.metrics] == ports


def test_three_free_ports_differ() -> None:
    chosen = Endpoints.choose()
    assert len({chosen.grpc, chosen.http, chosen.metrics} - {0}) == 3


def test_a_given_port_goes_with_free_ones() -> None:
    (port,) = free_ports(1)
    chosen = Endpoints.choose(http=port)
    assert chosen.http == port
    assert len({chosen.grpc, chosen.http, chosen.metrics}) == 3


@pytest.mark.parametrize(("option", "name"), [("grpc", "gRPC"), ("http", "HTTP"), ("metrics", "metrics")])
def test_a_taken_port_is_refused_by_name(taken: int, option: str, name: str) -> None:
    with pytest.raises(SetupError, match=rf"the {name} port {taken} cannot be used: .*in use"):
        Endpoints.choose(**{option: taken})


def test_a_taken_port_is_answered_with_the_next_ones_that_are_free(taken: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        grpc, http = sorted((taken, other.getsockname()[1]))
        with pytest.raises(SetupError, match=rf"the gRPC port {grpc} .*; these are free: --grpc-port") as refused:
            Endpoints.choose(grpc, http, watch=0)
    offered = [int(port) for port in re.findall(r"-port (\d+)", str(refused.value))]
    assert [(port - wanted) % 10 for port, wanted in zip(offered, (grpc, http), strict=True)] == [0, 0]
    assert offered[0] - grpc == offered[1] - http > 0
    chosen = Endpoints.choose(*offered)
    assert [chosen.grpc, chosen.http] == offered


def test_a_port_that_nobody_may_take_is_answered_without_others() -> None:
    with pytest.raises(SetupError) as refused:
        Endpoints.choose(grpc=8001, address="192.0.2.9")
    assert "these are free" not in str(refused.value)


def test_a_port_taken_on_all_addresses_is_refused() -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SetupError, match=str(port)):
            Endpoints.choose(grpc=port)


def test_ports_for_another_machine_may_be_taken_here(taken: int) -> None:
    chosen = Endpoints.choose(grpc=taken, watch=taken, checked=False)
    assert (chosen.grpc, chosen.watch) == (taken, taken)
    assert 0 not in (chosen.http, chosen.metrics)
    elsewhere = Endpoints.choose(address="192.0.2.9", watch_address="192.0.2.9", checked=False)
    assert elsewhere.grpc_url.startswith("192.0.2.9:")


def test_one_port_for_two_purposes_is_refused() -> None:
    (port,) = free_ports(1)
    with pytest.raises(SetupError, match=str(port)):
        Endpoints.choose(grpc=port, http=port)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(SetupError, match=rf"the HTTP port {port} cannot be used"):
        Endpoints.choose(http=port)


def test_the_ports_are_free_again_for_the_server() -> None:
    chosen = Endpoints.choose()
    for port in (chosen.grpc, chosen.http, chosen.metrics):
        socket.create_server(("127.0.0.1", port)).close()


def test_metrics_may_listen_on_an_address_of_their_own(taken: int) -> None:
    chosen = Endpoints.choose(metrics_address="127.0.0.2")
    assert chosen.metrics_url == f"http://127.0.0.2:{chosen.metrics}/metrics"
    assert (chosen.grpc_url, chosen.http_url) == (f"127.0.0.1:{chosen.grpc}", f"http://127.0.0.1:{chosen.http}")
    assert Endpoints.choose(metrics=taken, metrics_address="127.0.0.2").metrics == taken  # taken elsewhere alone
    with pytest.raises(SetupError, match=rf"the metrics port {taken} on 0\.0\.0\.0 cannot be used"):
        Endpoints.choose(metrics=taken, metrics_address="0.0.0.0")
    elsewhere = Endpoints.choose(metrics_address="192.0.2.9", checked=False)
    assert elsewhere.metrics_url.startswith("http://192.0.2.9:")


@pytest.mark.parametrize(
    ("address", "own", "host", "reached"),
    [
        ("0.0.0.0", "", "0.0.0.0", "127.0.0.1"),
        ("127.0.0.1", "0.0.0.0", "0.0.0.0", "127.0.0.1"),
        ("::1", "::", "::", "[::1]"),
        ("10.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1"),
    ],
)
def test_metrics_listen_where_the_rest_does_unless_told_otherwise(
    address: str, own: str, host: str, reached: str
) -> None:
    endpoints = Endpoints(1, 2, 3, address, metrics_address=own)
    assert endpoints.metrics_host == host
    assert endpoints.metrics_url == f"http://{reached}:3/metrics"


def test_addresses_are_loopback() -> None:
    endpoints = Endpoints(1, 2, 3)
    assert endpoints.grpc_url == "127.0.0.1:1"
    assert endpoints.http_url == "http://127.0.0.1:2"
    assert endpoints.metrics_url == "http://127.0.0.1:3/metrics"
