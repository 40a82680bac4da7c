"""Rates of tokens at a real HAProxy: what counts, and when."""

import time
from collections import Counter
from pathlib import Path

import grpc
import pytest

from doors import needs_haproxy
from stands import head, message, rows, send, stand

pytestmark = needs_haproxy
PERIOD_S = 9
SLOW = [f"slow-{number}" for number in range(20)]
"""Tokens to try in turn until a machine has sent a token's requests within the period that its rate is counted over."""


def test_a_rate_counts_requests_over_ten_seconds(tmp_path: Path) -> None:
    with stand(tmp_path, {**dict.fromkeys(SLOW, 1), "other": 1, "free": 0}) as made:
        for slow in SLOW:
            began, before = time.monotonic(), len(made.web.requests)
            answers = [made.post(slow, rows(["t-1"] * 50)) for _ in range(14)]
            code, _ = send(made, message([b"t-1"]).SerializeToString(), slow)
            if time.monotonic() - began < PERIOD_S:
                break
        assert Counter(status for status, _ in answers) == {200: 10, 429: 4}
        assert "the rate of 1 requests a second is used up: send again later" in answers[-1][1]
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(made.web.requests) - before == 10
        assert made.post("other", rows(["t-1"]))[0] == 200  # each token has a rate of its own
        assert {made.post("free", rows(["t-1"]))[0] for _ in range(30)} == {200}


@pytest.mark.nightly
def test_requests_that_are_refused_use_up_no_rate(tmp_path: Path) -> None:
    with stand(tmp_path, {"slow": 1}) as made:
        for _ in range(12):
            assert made.post("slow", rows(["t-1"]), content_encoding="gzip")[0] == 415
        assert made.post("slow", rows(["t-1"]))[0] == 200


def test_bodies_that_come_late_do_not_pass_a_rate(tmp_path: Path) -> None:
    body = rows(["t-1"])
    with stand(tmp_path, dict.fromkeys(SLOW, 1)) as made:
        for slow in SLOW:
            connections = [made.place.connect() for _ in range(20)]
            began = time.monotonic()
            for connection in connections:
                connection.sendall(head(made.tokens[slow], more=f"content-length: {len(body)}\r\n"))
            time.sleep(0.5)
            answers = []
            for connection in connections:
                connection.sendall(body)
                answers.append(connection.recv(4096).split(b" ")[1])
                connection.close()
            if time.monotonic() - began < PERIOD_S:
                break
        assert Counter(answers) == {b"200": 10, b"429": 10}
