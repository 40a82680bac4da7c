"""What one request may cost the front door, a real HAProxy: time and memory."""

from __future__ import annotations

import fnmatch
import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator

import grpc
import pytest
from tritonclient.grpc import service_pb2

from doors import needs_haproxy
from scoremux_client import contract
from stands import Stand, message, rows, send, stand

pytestmark = needs_haproxy
ROWS = contract.MAX_BATCH_ROWS
BODY = 2_000_000


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    patterns = {"ours": "t-*", "stars": "en-*-2024-*-b", "aaa": "*a*a*b", "inner": "a*b*", "one": "en-1"}
    with stand(tmp_path_factory.mktemp("door"), patterns=patterns) as made:
        yield made


# Time


def test_a_task_longer_than_any_is_refused_at_once(shared: Stand) -> None:
    for token, task in (("stars", "en" + "-2024-" * 300_000), ("aaa", "a" * 200_000)):
        started = time.monotonic()
        status, said = shared.post(token, rows([task]))
        assert status == 403 and "may not score" in said
        assert send(shared, message([task.encode()]).SerializeToString(), token)[0] is grpc.StatusCode.PERMISSION_DENIED
        assert time.monotonic() - started < 3
    assert shared.door.restarts == 0


def test_the_longest_tasks_are_matched_without_a_way_back(shared: Stand) -> None:
    tasks = [f"{'a' * (128 - len(str(number)))}{number}" for number in range(ROWS)]
    started = time.monotonic()
    assert shared.post("aaa", rows(tasks))[0] == 403
    assert shared.post("aaa", rows([f"{'a' * 120}-{number}-b@{'0' * 64}" for number in range(ROWS)]))[0] == 200
    assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("token", ["stars", "aaa", "inner", "one"])
def test_stars_stand_for_any_letters(shared: Stand, token: str) -> None:
    pattern = {"stars": "en-*-2024-*-b", "aaa": "*a*a*b", "inner": "a*b*", "one": "en-1"}[token]
    draw = random.Random(token)
    pieces = [*pattern.replace("*", " ").split(), "a", "b", "-", "2024", "en-", "en-1"]
    for _ in range(150):
        task = "".join(draw.choices(pieces, k=draw.randint(1, 7)))
        if re.fullmatch(contract.TASK_ID_PATTERN, task):
            allowed = fnmatch.fnmatchcase(task, pattern)
            assert shared.post(token, rows([task]))[0] == (200 if allowed else 403), task


# Memory


def test_what_a_request_is_made_of_costs_no_memory(shared: Stand) -> None:
    bombs = {
        "lists": b'{"inputs":[' + b"[]," * (BODY // 3) + b"[]]}",
        "nested": b'{"inputs":[' + b"[[[[[[]]]]]]," * (BODY // 13) + b"[]]}",
        "numbers": b'{"inputs":[' + b"1," * (BODY // 2) + b"1]}",
        "keys": b"{" + b",".join(b'"%06d":0' % number for number in range(BODY // 11)) + b"}",
        "strings": b'{"inputs":[{"name":"TEXT","data":[' + b'"",' * (BODY // 3) + b'""]}]}',
        "escapes": b'{"id":"' + b"\\u0041" * (BODY // 6) + b'"}',
    }
    shared.post("ours", rows(["t-1"], ["a" * BODY]))
    before = shared.worker_mib()
    for name, body in bombs.items():
        for _ in range(2):
            status, said = shared.post("ours", body)
            assert (status, "failed to read it" in said) == (400, False), (name, said)
    messages = [service_pb2.ModelInferRequest(model_name="scorer") for _ in range(2)]
    for _ in range(BODY // 2):
        messages[0].inputs.add()
        messages[1].raw_input_contents.append(b"")
    for one in (*messages, message([b""] * (BODY // 8), [b""] * (BODY // 8))):
        assert send(shared, one.SerializeToString())[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert shared.worker_mib() - before < 40 and shared.door.restarts == 0


def test_the_largest_requests_that_are_allowed_pass_together(shared: Stand) -> None:
    escaped = rows(["t-1"] * ROWS, ["\u3042" * 600] * ROWS)
    nested = json.loads(rows(["t-1"] * ROWS, ["b" * 3800] * ROWS))
    for tensor in nested["inputs"]:
        tensor["data"] = [[value] for value in tensor["data"]]
    bodies = [escaped, json.dumps(nested).encode(), rows(["t-1@" + "0" * 64] * ROWS, ["\u3042" + "c" * 3700] * ROWS)]
    assert all(1_800_000 < len(body) < 2 << 20 for body in bodies)
    big = message([b"t-1"] * ROWS, [b"d" * 3900] * ROWS).SerializeToString()
    answers: list[object] = []

    def job(number: int) -> None:
        body = bodies[number % 3]
        answers.append(send(shared, big)[0] if number % 4 == 3 else shared.post("ours", body)[0])

    threads = [threading.Thread(target=job, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(answers) == {200: 18, grpc.StatusCode.OK: 6}


def test_texts_end_where_json_says_whatever_is_in_them(shared: Stand) -> None:
    draw = random.Random(7)
    letters = ['"', "\\", "\n", "]", ",", "t", "\u3042", "\U0001f600", "\x07", " "]
    for length in (0, 1, 190, 192, 193, 194, 195, 400, 5_000):
        for weights in ([1] * 10, [5, 5, *[1] * 8], [0, 1, *[0] * 8], [1, *[0] * 9]):
            texts = ["".join(draw.choices(letters, weights, k=length)) for _ in range(4)]
            assert shared.post("ours", rows(["t-1"] * 4, texts))[0] == 200, (length, weights)
            assert shared.post("ours", rows(["t-1", "t-2", "secret", "t-3"], texts))[0] == 403, (length, weights)


@pytest.mark.parametrize(("long", "sentence"), [("\\", "well-formed"), ("\n", "control"), ("", "well-formed")])
def test_long_texts_that_are_no_json_are_refused(shared: Stand, long: str, sentence: str) -> None:
    body = rows(["t-1"], ["MARK"]).decode().replace("MARK", "a" * 300 + (long or '"'))
    status, said = shared.post("ours", body.encode())
    assert status == 400 and sentence in said


def test_a_field_of_no_number_is_none_of_the_protocols(shared: Stand) -> None:
    good = message([b"t-1"]).SerializeToString()
    assert send(shared, good)[0] is grpc.StatusCode.OK
    assert send(shared, good + b"\x02\x00")[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_rows_are_as_many_as_triton_takes(shared: Stand) -> None:
    assert shared.post("ours", rows(["t-1"] * ROWS))[0] == 200
    assert send(shared, message([b"t-1"] * ROWS).SerializeToString())[0] is grpc.StatusCode.OK
    for count, sentence in ((ROWS + 1, f"it has more than {ROWS} rows"), (0, "it has no rows")):
        status, said = shared.post("ours", rows(["t-1"] * count))
        assert status == 400 and sentence in said
        code, said = send(shared, message([b"t-1"] * count).SerializeToString())
        assert code is grpc.StatusCode.INVALID_ARGUMENT and sentence in said


def test_braces_are_no_brackets(shared: Stand) -> None:
    good = rows(["t-1"]).decode()
    for old, new in (
        ('"inputs"', '"parameters": [], "inputs"'),
        ('"inputs"', '"outputs": {}, "inputs"'),
        ('"inputs"', '"outputs": [[]], "inputs"'),
        ('"name": "TASK"', '"parameters": [], "name": "TASK"'),
        ('["t-1"]', "{}"),
        ("[1, 1]", "{}"),
    ):
        status, said = shared.post("ours", good.replace(old, new, 1).encode())
        assert status == 400 and "the front door cannot read the request" in said, new
    for old, new in (('"inputs"', '"parameters": {}, "inputs"'), ('"inputs"', '"outputs": [], "inputs"')):
        assert shared.post("ours", good.replace(old, new, 1).encode())[0] == 200
