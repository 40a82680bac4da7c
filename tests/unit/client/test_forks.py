"""A client that is used on both sides of a fork, as Django and Celery do with workers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from http_peers import HttpPeer, running
from peers import answer, listening

FORKED = """
import contextlib, os, sys, threading
from scoremux_client import NO_RETRIES, RejectedError, Response, ScoringClient

client = ScoringClient(sys.argv[1], retries=NO_RETRIES, deadline_s=240)

def score():
    try:
        return client.score([Response("t-1", "3")])[0].level
    except RejectedError as error:
        return str(error).rpartition(" ")[2]

def score_until(stop):
    while not stop.is_set():
        with turn:
            score()

print(score())
stop, turn = threading.Event(), contextlib.nullcontext() if "://" in sys.argv[1] else threading.Lock()
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


def scored_by_five(url: str) -> list[str]:
    """Return what a process prints that scores before, in and after three forks of it, while a thread scores.

    Over gRPC it forks between two calls of the thread: the library prepares no fork while a thread is in its core, and
    the new process may end in it.
    """
    command = [sys.executable, "-u", "-c", FORKED, url]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout.split()


def test_forked_grpc_client_scores() -> None:
    with listening(answer, threads=4) as url:
        assert scored_by_five(url) == ["3"] * 5


def test_forked_http_client_reaches_server() -> None:
    with running(HttpPeer()) as peer:
        peer.reply = (400, {}, b'{"error": "heard you"}')
        assert scored_by_five(f"http://{peer.address}") == ["you"] * 5


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_ended_process_leaves_no_words(scheme: str) -> None:
    code = (
        "from scoremux_client import *;"
        f"c = ScoringClient('{scheme}://127.0.0.1:9', retries=Retries(base_s=0.01));"
        "import threading; threading.Thread(target=lambda: c.score([Response('t', 'x')]), daemon=True).start();"
        "threading.Event().wait(0.2)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=240, check=True).stderr == b""
