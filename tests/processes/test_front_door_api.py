"""`scoremux api` behind a real HAProxy: same tokens, patterns and rates, and errors as problems."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

import peers
from apis import listening_api, row, score
from doors import KEY, Place, needs_haproxy
from scoremux_engine.scoring.permission import HEADER, Grant
from scoremux_server.errors import SetupError
from scoremux_server.front_door.config import FrontDoorConfig
from stands import Stand, head, stand
from waiting import until

pytestmark = needs_haproxy
ROWS = [row("a")]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    folder = tmp_path_factory.mktemp("api")
    with (
        listening_api(folder, key=KEY, tokens=folder / "tokens.json") as address,
        stand(folder, rates={"slow": 1}, patterns={"ours": "t-*"}, api=address) as made,
        asking(made) as ask,
    ):
        until(lambda: ask.get("/healthz").status_code == 200)
        yield made


def asking(made: Stand, token: str = "ours") -> httpx.Client:
    headers = {"authorization": f"Bearer {made.tokens[token]}"}
    return httpx.Client(base_url=made.place.url("https"), verify=made.place.context(), headers=headers, timeout=60)


def test_rows_pass_with_the_grant_of_the_token(shared: Stand) -> None:
    own = Grant("somebody", 4_000_000_000, ("*",)).signed(b"another key of the grants, 32 bytes")
    large = [row(n, "x" * 8000) for n in range(400)]  # more than a request to Triton may be
    with asking(shared) as ask:
        cursor = ask.get("/v1/changes").json()["cursor"]
        assert ask.get("/v1/changes", params={"after": cursor, "wait": 1}).json() == {"changes": [], "cursor": cursor}
        answer = score(ask, *ROWS, headers={HEADER: own})  # the door's replaces it
        assert (answer.status_code, answer.json()["rows"][0]["status"]) == (200, "OK")
        assert len(score(ask, *large).json()["rows"]) == 400
        assert ask.get("/readyz").status_code == 200
        assert ask.get("/v1/tasks?unused=1").json()["tasks"][0]["id"] == "t-1"
        assert ask.get("/metrics").status_code == 404


@pytest.mark.parametrize("token", ["x", "smx_unknown"])
def test_refusal_of_a_token_is_a_problem(shared: Stand, token: str) -> None:
    with asking(shared) as ask:
        answer = score(ask, *ROWS, headers={"authorization": f"Bearer {token}"})
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    assert (problem["title"], problem["status"], problem["retryable"]) == ("Unauthorized", 401, False)


def test_rates_count_and_are_in_the_headers(shared: Stand) -> None:
    with asking(shared, "slow") as ask:
        answers = [ask.get("/v1/tasks") for _ in range(14)]
    assert answers[0].headers["ratelimit-policy"] == '"requests";q=10;w=10'
    assert answers[0].headers["ratelimit"] == '"requests";r=9;t=10'
    last = next(answer for answer in answers if answer.status_code != 200)
    assert (last.status_code, last.json()["retryable"], last.headers["retry-after"]) == (429, True, "1")


def test_api_that_does_not_run_is_a_problem_to_retry(tmp_path: Path) -> None:
    with stand(tmp_path, patterns={"ours": "*"}, api="127.0.0.1:9") as made, asking(made) as ask:
        until(lambda: ask.get("/healthz").status_code == 503)
        answer = score(ask, *ROWS)
    assert (answer.status_code, answer.json()["retryable"], answer.headers["retry-after"]) == (503, True, "1")
    assert json.loads(answer.content)["detail"].startswith("the API behind the front door")


class Stalling(BaseHTTPRequestHandler):
    """In place of an API: its health is not answered while `goes` is not set."""

    goes = threading.Event()
    checks = 0

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self.goes.wait(60)
            Stalling.checks += 1
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


def test_one_check_of_the_api_that_fails_refuses_nobody(tmp_path: Path) -> None:
    Stalling.goes.set()
    with (
        peers.running(ThreadingHTTPServer(("127.0.0.1", 0), Stalling)) as web,
        stand(tmp_path, patterns={"ours": "*"}, api=f"127.0.0.1:{web.server_port}", check_s=2) as made,
        asking(made) as ask,
    ):
        until(lambda: Stalling.checks > 5)  # HAProxy counts failures from its last successes
        assert ask.get("/v1/tasks").status_code == 200
        Stalling.goes.clear()
        time.sleep(3)  # the first check has failed, and the third has not
        answer = ask.get("/v1/tasks")
        Stalling.goes.set()
    assert answer.status_code == 200, answer.text


def test_door_without_api_offers_none(tmp_path: Path) -> None:
    with stand(tmp_path, patterns={"ours": "*"}) as made, asking(made) as ask:
        assert score(ask, *ROWS).status_code == 404


def test_api_on_another_machine_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path, api="10.0.0.1:8005")
    with pytest.raises(SetupError, match=r"api: 10\.0\.0\.1:8005 is another machine"):
        FrontDoorConfig.read(place.file)


def test_slow_bodies_end_at_the_door(tmp_path: Path) -> None:
    web = peers.HttpPeer()  # in place of an API: it must see none of them
    with peers.running(web), stand(tmp_path, patterns={"ours": "*"}, api=web.address, client_s=1) as made:
        with made.place.connect() as connection:
            more = "content-length: 1000\r\n"
            connection.sendall(head(made.tokens["ours"], "POST", "/v1/score", more) + b'{"id":')
            assert connection.recv(4096).startswith(b"HTTP/1.1 408")
        assert web.seen == []
