"""How a pod of the chart ends: it serves until nobody is sent to it any more, and its door outlives its server."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from charts import CPU, Objects, container, pod, render, settings
from doors import Place, needs_haproxy
from scoremux_client import NO_RETRIES, Response, ScoringClient, UnavailableError
from scoremux_server.front_door.config import Backend
from serving import serving

NOTICE_S = 2


@pytest.mark.parametrize(("notice", "drain"), [(10, 60), (1, 300)])
def test_a_pod_is_not_killed_before_it_has_drained(notice: int, drain: int) -> None:
    objects = render({"noticeSeconds": notice, "drainSeconds": drain})
    assert f"drain_s={drain}" in settings(objects)
    # The server needs 2 s to refuse new rows, `drain` and 5 s for Triton, then 5 s for killed processes; then the door.
    assert pod(objects)["terminationGracePeriodSeconds"] >= notice + drain + 12 + 10


def test_the_notice_is_given_before_the_server_hears_of_its_end() -> None:
    objects = render({"noticeSeconds": 25})
    hook = container(objects, "server")["lifecycle"]["preStop"]
    assert hook == {"exec": {"command": ["sleep", "25"]}}  # the action `sleep` needs Kubernetes 1.30
    assert "notice_s=0" in settings(objects)
    # Kubernetes stops sidecars once the others have ended; a hook of its own would make the door no later.
    assert container(objects, "door") in pod(objects)["initContainers"] and "lifecycle" not in container(
        objects, "door"
    )


def carried(objects: Objects) -> list[str]:
    """Return the server's settings but for its ports, which are free ones here."""
    return [one for one in settings(objects) if not one.partition("=")[0].endswith("_port")]


@needs_haproxy
def test_rows_are_scored_through_the_door_for_the_whole_notice(small_repository: Path, tmp_path: Path) -> None:
    objects = render({**CPU, "profile": "cpu-reference", "noticeSeconds": NOTICE_S, "drainSeconds": 10})
    outcomes: list[tuple[float, str]] = []
    over = threading.Event()

    def score(client: ScoringClient) -> str:
        try:
            (scored,) = client.score([Response("t-4", "router")])
            return scored.status
        except UnavailableError:
            return "UNAVAILABLE"

    def ask(client: ScoringClient) -> None:
        while not over.wait(0.02):
            outcomes.append((time.monotonic(), score(client)))

    with serving(small_repository, tmp_path, *carried(objects)) as server:
        place = Place(tmp_path, [Backend.of(server.endpoints, "pod")])
        client = ScoringClient(place.url("grpcs"), tls=place.tls, token=place.everything, retries=NO_RETRIES)
        with place.open(), client:
            asking = threading.Thread(target=ask, args=(client,))
            asking.start()
            subprocess.run(container(objects, "server")["lifecycle"]["preStop"]["exec"]["command"], check=True)
            told = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(30)
            over.set()
            asking.join()
            place.connect().close()  # the door is still there
            assert score(client) == "UNAVAILABLE"
    early = [outcome for at, outcome in outcomes if at < told]
    assert len(early) > 20 and set(early) == {"OK"}
    assert {outcome for _, outcome in outcomes} <= {"OK", "UNAVAILABLE"}
