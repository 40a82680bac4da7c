"""`scoremux front-door` and `scoremux serve` as processes of their own: they share a key, and a stop loses no row."""

import subprocess
from pathlib import Path

from doors import Place, backend_of, needs_haproxy, statistics
from scoremux_client import NO_RETRIES, Response, ScoringClient
from serving import SCOREMUX, serving
from waiting import until

pytestmark = needs_haproxy


def test_door_and_triton_share_a_key_and_a_stop_of_the_door_answers_the_rows_in_flight(
    small_repository: Path, tmp_path: Path
) -> None:
    rows = [Response("t-4", f"{number} " + "router packet " * 40) for number in range(2000)]
    place = Place(tmp_path)
    with serving(small_repository, tmp_path, f"grant_key_file={tmp_path}/grant.key") as server:
        place.backends = [backend_of(server.endpoints)]
        place.configure()
        one = place.tokens.add("one", ["t-1"], 0, 1)
        with place.log.open("wb") as log:
            door = subprocess.Popen([SCOREMUX, "front-door", str(place.file)], stdout=log, stderr=log)
        with ScoringClient(place.url("grpcs"), tls=place.tls, token=one) as client:
            scored = client.score([Response("t-1", "a router"), Response("t-2", "a router")])
        assert [one.status for one in scored] == ["OK", "FORBIDDEN_TASK"]
        keys = {"tls": place.tls, "token": place.everything, "retries": NO_RETRIES, "chunk_rows": 500, "window": 4}
        with ScoringClient(place.url("https"), **keys) as strict:
            strict.score(rows)  # opens its four connections
            going = strict.score_iter(rows)
            assert next(going).ok  # the other three requests are under way
            door.terminate()
            assert sum(one.ok for one in going) == len(rows) - 1
        assert door.wait(90) == 0
        (tmp_path / "other.key").write_bytes(b"another key of at least 32 bytes")
        place.configure(grant_key="other.key")
        with place.open(wait=False) as other:
            until(lambda: {row["status"] for row in statistics(other) if row["svname"] == "own"} == {"DOWN"})
