"""What an address means, what is refused before anything is sent, certificates, forks and ends of processes."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from peers import ROW, answer, listening, once
from scoremux_client import (
    GrpcTransport,
    InputError,
    RejectedError,
    ScoringClient,
    Tls,
    UnavailableError,
    rows,
)
from scoremux_client.transports.connect import connect
from waiting import free_port


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("localhost:8001", "localhost:8001"),
        ("grpc://[::1]:8001", "[::1]:8001"),
        ("GRPCS://scores.example.org:443/", "scores.example.org:443"),
    ],
)
def test_an_address_is_read(url: str, address: str) -> None:
    transport = connect(url)
    assert transport.url == address
    transport.close()


@pytest.mark.parametrize(
    ("url", "options", "sentence"),
    [
        *((url, {}, "") for url in ("", "localhost", "ftp://host:1", "host:port", "grpc://:1", "grpc://host:1/path")),
        ("grpcs://me:secret@host:1", {}, "credentials go into token"),
        ("grpcs://me:secret@host:1/path", {}, "credentials go into token"),
        ("grpcs://me:secret@host:port", {}, "^'host:port' is not an address"),
        ("http://localhost:8000", {}, "^http://localhost:8000 is an HTTP address, .* speaks gRPC: .*POST /v1/score"),
        ("HTTPS://me:secret@host/triton?key=secret", {"tls": Tls()}, "^https://host is an HTTP address"),
        ("grpc://host:1", {"tls": Tls()}, "say grpcs"),
        *((url, {"tls": Tls("missing.pem")}, r"missing\.pem") for url in ("host:1", "grpcs://host:1")),
        ("host:1", {"token": "a\nb"}, "the header authorization has characters"),
        ("host:1", {"headers": {"x y": "1"}}, "a header's name"),
        ("host:1", {"headers": {"": "1"}}, "a header's name"),
        ("host:1", {"token": "secret", "headers": {"Authorization": "secret"}}, "give one of them"),
    ],
)
def test_nonsense_is_refused_before_anything_is_sent(url: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        ScoringClient(url, **options)
    assert re.search(sentence, str(caught.value)) and "secret" not in str(caught.value)
    with pytest.raises(InputError, match="belong together"):
        Tls(client_key="key.pem")


def test_where_no_server_listens_is_said() -> None:
    with listening(answer) as url:
        pass
    with pytest.raises(UnavailableError, match=url):
        once(url)


def test_a_closed_transport_says_so() -> None:
    transport = GrpcTransport("127.0.0.1:9")
    transport.close()
    with pytest.raises(RejectedError, match="closed"):
        transport.submit(rows.encode(ROW), 1.0).result(5)


@pytest.mark.parametrize("options", [{"token": "secret"}, {"headers": {"Authorization": "Basic secret"}}], ids=str)
@pytest.mark.parametrize("url", ["scores.example.org:8001", "10.0.0.7:8000", "grpc://[2001:db8::1]:8001"])
def test_a_token_goes_to_another_machine_only_over_an_encrypted_connection(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"not encrypted, so the token could be read.*insecure=True") as caught:
        ScoringClient(url, **options)
    assert "secret" not in str(caught.value)
    ScoringClient(url, insecure=True, **options).close()


@pytest.mark.parametrize(
    ("url", "tls"),
    [
        *((url, None) for url in ("localhost:8001", "grpc://127.0.0.2:8000", "grpc://[::1]:8001")),
        ("grpcs://scores.example.org:443", None),
        ("scores.example.org:8001", Tls()),
    ],
)
def test_a_token_goes_to_this_machine_or_over_an_encrypted_connection_as_it_is(url: str, tls: Tls | None) -> None:
    ScoringClient(url, token="secret", tls=tls).close()


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


FORKED = """
import os, sys, threading
from scoremux_client import NO_RETRIES, Response, ScoringClient

client = ScoringClient(sys.argv[1], retries=NO_RETRIES, deadline_s=240)

def score():
    return client.score([Response("t-1", "3")])[0].level

def score_until(stop):
    while not stop.is_set():
        with turn:
            score()

print(score())
stop, turn = threading.Event(), threading.Lock()
thread = threading.Thread(target=score_until, args=[stop])
thread.start()
for _ in range(3):
    with turn:
        if not os.fork():
            print(score(), flush=True)
            os._exit(0)
        os.wait()
stop.set()
thread.join()
print(score())
"""


def test_forked_client_scores() -> None:
    """A process scores before, in and after three forks of it, while a thread scores.

    It forks between two calls of the thread: gRPC prepares no fork while a thread is in its core, and the new process
    may end in it.
    """
    with listening(answer, threads=4) as url:
        command = [sys.executable, "-u", "-c", FORKED, url]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    assert ended.stdout.split() == ["3"] * 5


def test_ended_process_leaves_no_words() -> None:
    code = (
        "from scoremux_client import *;"
        "c = ScoringClient('127.0.0.1:9', retries=Retries(base_s=0.01));"
        "import threading; threading.Thread(target=lambda: c.score([Response('t', 'x')]), daemon=True).start();"
        "threading.Event().wait(0.2)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=240, check=True).stderr == b""
