"""Certificates, checked both ways over gRPC and HTTP."""

from __future__ import annotations

import socket
import ssl
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from http_peers import HttpPeer, running
from peers import ROW, answer, listening, once
from ports import free_port
from scoremux_client import DeadlineError, HttpTransport, RejectedError, Tls, UnavailableError, rows


@pytest.fixture(scope="module")
def client_tls(authority: trustme.CA, roots: Path) -> Tls:
    issued = authority.issue_cert("client@example.org")
    certificate, key = roots.with_name("client.pem"), roots.with_name("client.key")
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    return Tls(roots, certificate, key)


def grpc_credentials(authority: trustme.CA, *, mutual: bool) -> grpc.ServerCredentials:
    issued = authority.issue_cert("127.0.0.1")
    pair = (issued.private_key_pem.bytes(), b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    return grpc.ssl_server_credentials([pair], authority.cert_pem.bytes() if mutual else None, mutual)


def test_grpc_over_tls_with_client_certificate_token_and_header(authority: trustme.CA, client_tls: Tls) -> None:
    seen: list[dict[str, str]] = []

    def handler(request: Any, context: grpc.ServicerContext) -> Any:
        seen.append(dict(context.invocation_metadata()))
        return answer(request, context)

    with listening(handler, grpc_credentials(authority, mutual=True)) as url:
        assert once(url, tls=client_tls, token="abc", headers={"X-Course": "algebra"})[0].ok
        assert once(f"grpcs://{url}", tls=client_tls)[0].ok
        with pytest.raises(UnavailableError):
            once(url, tls=Tls(client_tls.root_certificates))
    assert (seen[0]["authorization"], seen[0]["x-course"]) == ("Bearer abc", "algebra")


def test_a_grpc_server_that_nobody_vouches_for_is_not_talked_to(authority: trustme.CA, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with listening(answer, grpc_credentials(authority, mutual=False)) as url:
        for options in ({"tls": Tls(tmp_path / "other.pem")}, {"tls": Tls()}, {}):
            with pytest.raises(UnavailableError):
                once(url, **options)
    with pytest.raises(UnavailableError, match=r"is a server running there\? A front door takes grpcs"):
        once(f"127.0.0.1:{free_port()}")


def test_https_checks_certificates_both_ways(authority: trustme.CA, client_tls: Tls) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with running(HttpPeer(context)) as peer:
        peer.reply = (400, {}, b'{"error": "heard you"}')
        with pytest.raises(RejectedError, match="heard you"):
            once(f"https://{peer.address}", tls=client_tls)
        for tls in (Tls(client_tls.root_certificates), Tls(), None):
            with pytest.raises(UnavailableError):
                once(f"https://{peer.address}", tls=tls)
        assert len(peer.seen) == 1


def test_a_handshake_that_is_given_up_leaves_no_connection() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        closing(HttpTransport(f"127.0.0.1:{listener.getsockname()[1]}", tls=Tls())) as transport,
    ):
        with pytest.raises(DeadlineError):
            transport.submit(rows.encode(ROW), timeout_s=0.3).result(60)
        with listener.accept()[0] as connection:
            connection.settimeout(60)
            while connection.recv(4096):  # the client's greeting, and then the end
                pass
