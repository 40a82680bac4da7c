"""Rates of tokens at a real HAProxy: what counts, and when."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from doors import needs_haproxy
from stands import head, rows, stand

pytestmark = needs_haproxy


def test_bodies_that_come_late_do_not_pass_a_rate(tmp_path: Path) -> None:
    body = rows(["t-1"] * 500)
    with stand(tmp_path, {"slow": 1}) as made:
        connections = [made.place.connect() for _ in range(20)]
        for connection in connections:
            connection.sendall(head(made.tokens["slow"], more=f"content-length: {len(body)}\r\n"))
        time.sleep(0.5)
        answers = []
        for connection in connections:
            connection.sendall(body)
            answers.append(connection.recv(4096).split(b" ")[1])
            connection.close()
        assert Counter(answers) == {b"200": 1, b"429": 19}
        assert len(made.web.requests) == 1


def test_what_is_refused_for_its_content_costs_a_row(tmp_path: Path) -> None:
    with stand(tmp_path, {"tasks": 1, "bytes": 1}) as made:
        for token, body, status in (("tasks", rows(["en-1"]), 403), ("bytes", b"{}", 400)):
            answers = [made.post(token, body)[0] for _ in range(12)]
            assert Counter(answers) == {status: 10, 429: 2}
            assert made.post(token, rows(["t-1"]))[0] == 429
        assert not made.web.requests


def test_a_token_revoked_while_a_body_is_waited_for_is_revoked(tmp_path: Path) -> None:
    body = rows(["t-1"])
    with stand(tmp_path, {"guest": 0}) as made, made.place.connect() as connection:
        connection.sendall(head(made.tokens["guest"], more=f"content-length: {len(body)}\r\n"))
        made.place.tokens.revoke("guest")
        deadline = time.monotonic() + 5
        while made.post("guest", body)[0] != 401:
            assert time.monotonic() < deadline
        connection.sendall(body)
        assert connection.recv(4096).startswith(b"HTTP/1.1 401")
