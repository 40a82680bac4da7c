"""`examples/replay.py`: rows of an audit log, scored again by a real server."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from decided import make_decision, write_decision
from making import ROOT, make_adapter
from scoremux_client import Response, ScoringClient
from scoremux_client.audit_lines import CANARY_TEXT, text_digest
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.store.store import Store
from serving import serving

ROWS = 40
KEY = "a key that nobody guesses"
CANARY = text_digest(CANARY_TEXT.encode(), KEY.encode())
Line = dict[str, Any]
Replay = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def logged(
    small_repository: Path, backbone: Backbone, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[list[Line], Replay, bytes]]:
    """The log's lines, what runs the example on changed ones (its exit status and what it prints), and the log."""
    folder = tmp_path_factory.mktemp("replay")
    repository = folder / "repository"
    subprocess.run(["cp", "-r", small_repository, repository], check=True)
    decided = write_decision(make_adapter(folder / "decided", backbone.spec, "decided", seed=3), make_decision())
    traits = {"a": {"levels": [0, 1]}, "b": {"levels": [0, 1, 2]}}
    described = {"levels": None, "traits": traits, "total": {"sum": ["a", "b"]}}
    item = make_adapter(folder / "essay", backbone.spec, "essay", task_json=described)
    Store(repository / "store").add([decided, item], backbone)
    (folder / "key").write_text(KEY)
    texts = [*(f"the router {n} hands out addresses" for n in range(ROWS - 1)), "  "]
    tasks = [*(f"t-{1 + n % 4}" for n in range(ROWS - 6)), "essay.b", "essay.total", *["decided"] * 4]
    rows = [{"id": f"r{n}", "text": text} for n, text in enumerate(texts)]
    (folder / "responses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = (f"audit_log={folder / 'audit.log'}", f"audit_key_file={folder / 'key'}")
    with serving(repository, folder, *settings) as server, ScoringClient(server.endpoints.grpc_url) as client:
        client.score([*map(Response, tasks, texts), Response("nobody", "no task")])
        written = (folder / "audit.log").read_bytes()
        lines = [json.loads(line) for line in written.splitlines()]

        def replay(changed: list[Line] | bytes, *options: str) -> tuple[int, str]:
            if not isinstance(changed, bytes):  # lines without a chain, as another program may write them
                plain = ({name: line[name] for name in line.keys() - {"number", "previous"}} for line in changed)
                changed = "".join(json.dumps(line) + "\n" for line in plain).encode()
            (folder / "changed.log").write_bytes(changed)
            words = [folder / "changed.log", folder / "responses.jsonl", "--url", server.endpoints.grpc_url]
            options = options or ("--key-file", str(folder / "key"))
            command = [sys.executable, ROOT / "examples/replay.py", *words, *options]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert "Traceback" not in ended.stderr, ended.stderr
            return ended.returncode, ended.stdout

        yield lines, replay, written


def test_honest_log_is_equal(logged: tuple[list[Line], Replay, bytes]) -> None:
    lines, replay, _ = logged
    assert "CONDITION" in {line["status"] for line in lines} and CANARY in {line["digest"] for line in lines}
    assert replay(lines) == (0, f"{ROWS} rows: equal\n")


def test_the_log_of_a_server_begins_with_its_start_and_names_a_removed_line(
    logged: tuple[list[Line], Replay, bytes],
) -> None:
    lines, replay, written = logged
    start = lines[0]
    assert (start["event"], start["status"], start["number"], start["previous"]) == ("start", "EVENT", 0, "")
    assert start["arithmetic"] == lines[1]["arithmetic"] and start["profile"]["choice"]["precision"] == "float32"
    assert start.keys() >= lines[1].keys() and "float32: " in start["check"]
    assert replay(written) == (0, f"{ROWS} rows: equal\n")
    kept = written.splitlines(keepends=True)
    status, shown = replay(b"".join([*kept[:2], *kept[3:]]))
    assert status == 1 and "changed.log, line 3: lines before it are missing: 1" in shown


def next_float32(value: float) -> float:
    return float(f"{np.nextafter(np.float32(value), np.float32(2)):.9g}")


FORGERIES: dict[str, Callable[[Line], Line]] = {
    "level": lambda line: {"level": (line["level"] + 1) % len(line["probabilities"])},
    "last bit of a probability": lambda line: {
        "probabilities": [next_float32(line["probabilities"][0]), *line["probabilities"][1:]]
    },
    "another head": lambda line: {"probabilities": [*line["probabilities"], 0.0]},
    "condition": lambda _: {"status": "CONDITION", "condition": "B", "level": None, "probabilities": None},
    "confidence": lambda _: {"confidence": 0.99},
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_forged_row_differs(logged: tuple[list[Line], Replay, bytes], forge: Callable[[Line], Line]) -> None:
    lines, replay, _ = logged
    place = next(n for n, line in enumerate(lines) if line["task"] == "t-2" and line["digest"] != CANARY)
    status, shown = replay([*lines[:place], lines[place] | forge(lines[place]), *lines[place + 1 :]])
    named, *counts = shown.splitlines()
    assert status == 1 and named.startswith("r1  t-2")
    assert sorted(counts) == ["1 rows: differs", f"{ROWS - 1} rows: equal"]


def test_rows_that_cannot_be_asked_are_counted_by_reason(logged: tuple[list[Line], Replay, bytes]) -> None:
    lines, replay, _ = logged
    scored = [line for line in lines if line["task"] == "t-1" and line["digest"] != CANARY][:5]
    scored[0] = scored[0] | {"arithmetic": "vnni-int8-f32"}
    scored[1] = scored[1] | {"version": "e" * 64}
    scored[2] = scored[2] | {"digest": f"hmac-sha256:{'0' * 64}"}
    scored[3] = scored[3] | {"digest": f"hmac-sha256:{'1' * 64}"}
    status, shown = replay(scored)
    assert status == 1
    for words in ("vnni-int8-f32 then", "UNKNOWN_TASK", "digest erased", "text not given", "equal"):
        assert any(line.startswith("1 rows: ") and line.endswith(words) for line in shown.splitlines()), words
    assert replay(scored[4:])[0] == 0
    assert replay([])[0] == 1
    assert replay(scored[4:], "--id", "id") == (1, "1 rows: text not given\n")  # without the key
