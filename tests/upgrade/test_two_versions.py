"""Servers of the release before and of today's code, on one repository behind one front door.

As server_config/README.md says in "Upgrade": servers are restarted one after another, then the front door.
"""

import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event

import numpy as np
import pytest

import earlier_release
from doors import Place, backend_of, needs_haproxy
from making import Once
from scoremux_client import Response, Scored, ScoringClient
from scoremux_files.digests import digest_of
from scoremux_files.rows.readers import read_rows
from serving import SCOREMUX, run_here, serving
from waiting import free_endpoints, until

pytestmark = [pytest.mark.nightly, needs_haproxy]


@contextmanager
def front_door(program: str, place: Place) -> Iterator[None]:
    """Run a version's front door until the block ends."""
    with place.log.open("ab") as log:
        door = subprocess.Popen([program, "front-door", str(place.file)], stdout=log, stderr=log)
    try:
        with client(place) as asked:
            until(lambda: asked.score([Response("tree", "the answer")])[0].ok, door, place.log.read_text)
        yield
    finally:
        door.terminate()
        assert door.wait(90) == 0, place.log.read_text()


def client(place: Place) -> ScoringClient:
    return ScoringClient(place.url("grpcs"), tls=place.tls, token=place.everything, deduplicate=False)


def test_rows_keep_their_bits_while_servers_and_door_are_replaced(once: Once, tmp_path: Path) -> None:
    old = earlier_release.command(once)
    shutil.copytree(earlier_release.FILES / "repository", tmp_path / "repository")
    place, ports, ended = Place(tmp_path), [free_endpoints(), free_endpoints()], Event()
    place.backends = [backend_of(at, f"server-{number}") for number, at in enumerate(ports)]
    place.configure()
    rows = [
        Response(row["task"], row["text"], id=row["id"]) for row in read_rows(earlier_release.FILES / "labelled.csv")
    ]

    def load() -> list[Scored]:
        answers: list[Scored] = []
        with client(place) as asked:
            while not ended.is_set():
                answers += asked.score(rows)
        return answers

    @contextmanager
    def server(number: int, program: str, name: str) -> Iterator[None]:
        scratch = tmp_path / name
        scratch.mkdir()
        settings = (f"grant_key_file={tmp_path}/grant.key", f"audit_log={scratch}/audit.jsonl")
        with serving(tmp_path / "repository", scratch, *settings, ports=ports[number], program=program):
            yield

    with ExitStack() as left, ThreadPoolExecutor(1) as threads:
        servers = [ExitStack(), ExitStack()]
        for number, stack in enumerate(servers):
            left.push(stack)
            stack.enter_context(server(number, old, f"old-{number}"))
        with front_door(old, place):
            loading = threads.submit(load)
            left.callback(ended.set)
            for number, stack in enumerate(servers):
                stack.close()
                stack.enter_context(server(number, SCOREMUX, f"new-{number}"))
        with front_door(SCOREMUX, place):
            release = ("tasks", "release", "tree", "--by", "A. Lopez", "--store", tmp_path / "repository/store")
            assert run_here(*release).returncode == 0
            until(lambda: all(audited(tmp_path, name, rows[0]) for name in ("old-0", "old-1", "new-0", "new-1")))
            ended.set()
            answers = loading.result()
    assert len(answers) % len(rows) == 0 and all(answer.ok for answer in answers)
    bits = {(a.id, a.arithmetic, np.float32(a.probabilities).tobytes(), a.level) for a in answers}
    assert len(bits) == len(rows) * len({answer.arithmetic for answer in answers})
    assert {answer.route for answer in answers if answer.task == "tree"} >= {"human:HELD"}


def audited(folder: Path, name: str, row: Response) -> bool:
    """Whether a server has logged a row."""
    path = folder / name / "audit.jsonl"
    return path.exists() and digest_of([row.text.encode()]) in path.read_text()
