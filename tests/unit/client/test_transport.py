"""Which transport an address chooses, what is refused before anything is sent, and what both have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from peers import ROW, answer, listening, once
from scoremux_client import (
    GrpcTransport,
    HttpTransport,
    InputError,
    RejectedError,
    ScoringClient,
    Tls,
    UnavailableError,
    rows,
)
from scoremux_client.testing import FakeTransport
from scoremux_client.transports.connect import connect


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("localhost:8001", GrpcTransport),
        ("grpc://[::1]:8001", GrpcTransport),
        ("grpcs://scores.example.org:443", GrpcTransport),
        ("http://localhost:8000", HttpTransport),
        ("https://scores.example.org:443/triton/", HttpTransport),
    ],
)
def test_an_address_chooses_the_transport(url: str, kind: type) -> None:
    transport = connect(url)
    assert isinstance(transport, kind)
    transport.close()


@pytest.mark.parametrize("url", ["", "localhost", "ftp://host:1", "host:port", "grpc://:1", "grpc://host:1/path"])
def test_an_address_that_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(InputError):
        connect(url)


def test_a_password_in_an_address_and_certificates_for_plain_text_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        connect("https://me:hunter2@host:1")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(InputError, match="say http"):
        connect("http://host:1", Tls())


def test_certificates_are_named_when_they_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="belong together"):
        Tls(client_key=tmp_path / "key.pem")
    missing = Tls(tmp_path / "missing.pem")
    for url in ("host:1", "https://host:1"):
        with pytest.raises(InputError, match=r"missing\.pem"):
            connect(url, missing)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"token": "a\nb"}, "the header authorization has characters"),
        ({"headers": {"x y": "1"}}, "a header's name"),
        ({"headers": {"": "1"}}, "a header's name"),
        ({"token": "secret", "headers": {"Authorization": "secret"}}, "give one of them"),
    ],
)
def test_headers_that_http_cannot_carry_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        ScoringClient("host:1", **options)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_where_no_server_listens_is_said(scheme: str) -> None:
    with listening(answer) as url:
        pass
    with pytest.raises(UnavailableError, match=url):
        once(f"{scheme}://{url}")


@pytest.mark.parametrize("kind", [GrpcTransport, HttpTransport])
def test_a_closed_transport_says_so(kind: type[GrpcTransport | HttpTransport]) -> None:
    transport = kind("127.0.0.1:9")
    transport.close()
    with pytest.raises(RejectedError, match="closed"):
        transport.submit(rows.encode(ROW), 1.0).result(5)


def test_no_connection_is_left_open_if_a_later_address_makes_no_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[object] = []
    for kind in (GrpcTransport, HttpTransport):
        close = kind.close
        monkeypatch.setattr(kind, "close", lambda self, close=close: (closed.append(self.url), close(self)))
    own = FakeTransport({})
    with pytest.raises(InputError, match="'nonsense' is not an address"):
        ScoringClient([own, "127.0.0.1:9", "http://127.0.0.1:9", "nonsense"])
    assert closed == ["127.0.0.1:9", "127.0.0.1:9"]
    assert not own.closed  # the caller made it, the caller closes it


@pytest.mark.parametrize("options", [{"token": "secret"}, {"headers": {"Authorization": "Basic secret"}}], ids=str)
@pytest.mark.parametrize("url", ["scores.example.org:8001", "http://10.0.0.7:8000", "grpc://[2001:db8::1]:8001"])
def test_a_token_goes_to_another_machine_only_over_an_encrypted_connection(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"not encrypted, so the token could be read.*insecure=True") as caught:
        ScoringClient(url, **options)
    assert "secret" not in str(caught.value)
    ScoringClient(url, insecure=True, **options).close()


@pytest.mark.parametrize(
    ("url", "tls"),
    [
        *((url, None) for url in ("localhost:8001", "http://127.0.0.2:8000", "grpc://[::1]:8001")),
        ("grpcs://scores.example.org:443", None),
        ("scores.example.org:8001", Tls()),
    ],
)
def test_a_token_goes_to_this_machine_or_over_an_encrypted_connection_as_it_is(url: str, tls: Tls | None) -> None:
    ScoringClient(url, token="secret", tls=tls).close()
