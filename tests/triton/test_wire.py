"""The page `client/wire.md`: its clients in other languages, and what it says of Triton's HTTP server."""

import http.server
import json
import shutil
import subprocess

import httpx
import pytest

from making import ROOT
from peers import running
from scoremux_client import Response, ScoringClient
from scoremux_server.triton.server import TritonServer
from watching import responses

EXAMPLES = ROOT / "examples" / "wire"
CLIENTS = {"java": EXAMPLES / "Score.java", "php": EXAMPLES / "score.php"}
"""Program → the client that it runs."""


def needs(program: str) -> None:
    """Skip where a program is not installed; Java must be able to run a source file."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed: apt-get install default-jdk-headless php-cli")
    modules = subprocess.run(["java", "--list-modules"], capture_output=True, text=True) if program == "java" else None
    if modules and "jdk.compiler" not in modules.stdout:
        pytest.skip("this Java has no compiler: apt-get install default-jdk-headless")


def score(program: str, url: str, rows: list[Response]) -> list[list[str]]:
    lines = "".join(f"{row.task}\t{row.text}\n" for row in rows)  # type: ignore[str-bytes-safe]
    done = subprocess.run([program, CLIENTS[program], url], input=lines.encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return [line.split("\t") for line in done.stdout.decode().splitlines()]


@pytest.mark.parametrize("program", CLIENTS)
def test_clients_in_other_languages_get_the_same_scores(program: str, server: TritonServer) -> None:
    needs(program)
    odd = ['say "so" \\ or 😀 für 猫', "", "no-such\u2028line", "tab\tin it"]
    rows = [*responses(600), *(Response("t-1", text) for text in odd), Response("no-such-task", "x")]
    rows = [row for row in rows if "\n" not in str(row.text)]
    with ScoringClient(server.endpoints.grpc_url) as client:
        expected = client.score(rows)
    scored = score(program, server.endpoints.http_url, rows)
    assert [(status, int(level), route) for status, level, _, route in scored] == [
        (one.status.value, one.level, one.route) for one in expected
    ]
    assert [float(points) if points else None for _, _, points, _ in scored] == [one.score for one in expected]


@pytest.mark.parametrize("program", CLIENTS)
def test_clients_in_other_languages_send_a_refused_request_again(program: str, server: TritonServer) -> None:
    needs(program)
    asked: list[bytes] = []

    class FullAtFirst(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["content-length"])))
            answer = httpx.post(server.endpoints.http_url + self.path, content=asked[-1], timeout=60)
            self.send_response(503 if len(asked) == 1 else answer.status_code)
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            pass

    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), FullAtFirst)) as web:
        ((status, *_),) = score(program, f"http://127.0.0.1:{web.server_port}", [Response("t-1", "the router")])
    assert (status, len(asked), asked[0]) == ("OK", 2, asked[-1])


@pytest.mark.parametrize("text", [None, "half \ud800"])
def test_triton_refuses_a_request_with_a_text_that_json_cannot_carry(text: str | None, server: TritonServer) -> None:
    rows = [Response("t-1", text), Response("t-1", "the router")]
    inputs = [
        {"name": name, "datatype": "BYTES", "shape": [2, 1], "data": data}
        for name, data in (("TEXT", [row.text for row in rows]), ("TASK", [row.task for row in rows]))
    ]
    answer = httpx.post(f"{server.endpoints.http_url}/v2/models/scorer/infer", content=json.dumps({"inputs": inputs}))
    assert answer.status_code == 500
    with ScoringClient(server.endpoints.grpc_url) as client:
        assert [one.status.value for one in client.score(rows)] == ["INVALID_TEXT", "OK"]
