"""Two Tritons behind the front door, one of them killed every few seconds, under load."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

from doors import KEY, Place, needs_haproxy
from load import Load, made_up_rows
from proofs import Result, Scaled
from scoremux_client import Retries, ScoringClient
from scoremux_engine import Engine
from scoremux_server.front_door.config import Backend
from serving import code, serving

EVERY_S = 10.0


@needs_haproxy
def test_no_row_is_lost_while_one_of_two_tritons_lives(
    saf_repository: Path, saf_tasks: list[str], tmp_path: Path, scaled: Scaled, result: Result
) -> None:
    rows = made_up_rows(saf_tasks, 512, seed=2)
    expected = Engine.open(saf_repository).score([str(row.text) for row in rows], [row.task for row in rows])
    seconds, kills = scaled(300), 0
    with ExitStack() as held:
        (tmp_path / "grant.key").write_bytes(KEY)
        key_file, servers = f"grant_key_file={tmp_path / 'grant.key'}", []
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            servers.append(held.enter_context(serving(saf_repository, tmp_path / name, key_file)))
        backends = [Backend.of(server.endpoints, f"triton-{number}") for number, server in enumerate(servers)]
        place = Place(tmp_path, backends)
        held.enter_context(place.open())
        keys = {"tls": place.tls, "token": place.everything, "retries": Retries(patience_s=60, contact_s=60)}
        urls = [place.url(scheme) for scheme in ("grpcs", "https")]
        clients = [lambda url=url: ScoringClient(url, window=2, chunk_rows=32, **keys) for url in urls]
        with Load(clients, rows, expected) as load:
            load.wait_for_answer()
            ends = time.monotonic() + seconds
            while (strikes_at := time.monotonic() + min(EVERY_S, seconds / 2)) < ends:
                server = servers[kills % 2]
                if code(f"{server.endpoints.watch_url}/readyz") == 200:
                    os.kill(server.triton, signal.SIGKILL)
                    kills += 1
                time.sleep(max(0.0, strikes_at - time.monotonic()))
    result(
        f"two Tritons behind the front door, one killed every {EVERY_S:.0f} s for {seconds} s under load",
        f"{kills} kills, {load.lost} of {load.scored:,} rows lost, {load.wrong} wrong, longest pause "
        f"{load.longest_pause_s:.1f} s",
    )
    assert kills >= 1
    assert (load.lost, load.wrong, load.errors) == (0, 0, [])
