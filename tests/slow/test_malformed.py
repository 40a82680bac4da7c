"""Malformed requests by the ten thousand: an answer or an error sentence each, and the same bits afterwards.

Through a real front door go killers of Triton and innocent rows with the killers' word, too. `--resume FOLDER` keeps
what is done of these, so that the same command goes on after a stop.
"""

from __future__ import annotations

import http.client
import json
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2

from doors import Place, bearer, needs_haproxy
from doors import serving as door_serving
from fuzzing import CODES, HANG_S, WORKERS, fuzz
from killers import grpc_killer, http_killer, innocent_grpc, innocent_http, text_with_word
from malformed import grpc_request, http_request
from proofs import Result, Scaled
from scoremux_server.front_door.config import Backend
from serving import serving

INFER_GRPC, INFER_HTTP = "/inference.GRPCInferenceService/ModelInfer", "/v2/models/scorer/infer"
DOOR_SAYS = "no classification of outputs"
KINDS = ("killer",) * 5 + ("malformed",) * 4 + ("innocent",)
"""Of ten requests; over gRPC and HTTP by turns."""


class Sender:
    """One client of the door, with connections of its own."""

    def __init__(self, place: Place) -> None:
        roots = grpc.ssl_channel_credentials((place.folder / "ca.pem").read_bytes())
        options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.secure_channel(f"localhost:{place.port}", roots, options)
        self._call = self._channel.unary_unary(INFER_GRPC, lambda body: body, lambda body: body)
        self._http = http.client.HTTPSConnection("localhost", place.port, context=place.tls.context(), timeout=HANG_S)
        self._token = dict(bearer(place.everything))

    def close(self) -> None:
        self._channel.close()
        self._http.close()

    def over_grpc(self, body: bytes) -> tuple[str, str]:
        """Return an outcome, and the row's status or the error's sentence."""
        try:
            answer = self._call(body, metadata=list(self._token.items()), timeout=HANG_S)
        except grpc.RpcError as error:
            sentence = error.details() or ""
            return CODES.get(error.code(), "refused" if sentence else "no sentence"), sentence
        response = service_pb2.ModelInferResponse.FromString(answer)
        named = dict(zip((output.name for output in response.outputs), response.raw_output_contents, strict=False))
        return "answered", named.get("STATUS", b"")[4:].decode("latin-1")

    def over_http(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[str, str]:
        """Return an outcome, and the row's status or the error's sentence."""
        try:
            self._http.request("POST", path, body, {**self._token, **headers})
            answer = self._http.getresponse()
            status, text = answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._http.close()
            return ("hang" if isinstance(error, TimeoutError) else f"connection lost ({type(error).__name__})"), ""
        try:
            document = json.loads(text)
            if status == 200:
                return "answered", str(document["outputs"][0].get("data", [""])[0]) if "outputs" in document else ""
            return ("refused" if document["error"] else "no sentence"), str(document["error"])
        except (ValueError, KeyError, TypeError, IndexError):
            return ("answered" if status == 200 else f"no sentence ({status})"), ""

    def send(self, number: int, seed: str) -> tuple[str, str, str]:
        """Send the request of this number; return its kind, its outcome and what is wrong with it, if anything."""
        draw = random.Random(f"door {seed} {number}")
        kind, grpc_turn = KINDS[number // 2 % len(KINDS)], number % 2 == 0
        if kind == "killer":
            outcome, said = self.over_grpc(grpc_killer(draw)) if grpc_turn else self._post(*http_killer(draw))
            return kind, outcome, "" if outcome == "refused" and DOOR_SAYS in said else f"{outcome}: {said[:60]}"
        if kind == "innocent":
            text = text_with_word(draw)
            outcome, said = (
                self.over_grpc(innocent_grpc(draw, text)) if grpc_turn else self._post(*innocent_http(draw, text))
            )
            return kind, outcome, "" if (outcome, said) == ("answered", "OK") else f"{outcome}: {said[:60]} {text!r}"
        name = f"{seed}-{number}"
        if grpc_turn:
            outcome, said = self.over_grpc(grpc_request(name).SerializeToString())
        else:
            outcome, said = self.over_http(*http_request(name))
        return kind, outcome, "" if outcome in ("answered", "refused") else f"{outcome}: {said[:60]}"

    def _post(self, body: bytes, headers: dict[str, str]) -> tuple[str, str]:
        return self.over_http(INFER_HTTP, body, headers)


class DoorFuzz:
    """Sends requests by number; counts kinds and outcomes, what was wrong, and every start of Triton."""

    def __init__(self, place: Place, reports: list[str], pid: Any) -> None:
        self._place, self._reports, self._pid = place, reports, pid

    def run(self, first: int, count: int, seed: str = "1") -> tuple[Counter[str], list[str]]:
        """Send the requests `first` … `first + count - 1`; return counts by kind and outcome, and what was wrong."""
        before, share = self._pid(), -(-count // WORKERS)

        def work(start: int) -> tuple[Counter[str], list[str]]:
            counts: Counter[str] = Counter()
            wrong: list[str] = []
            sender = Sender(self._place)
            for number in range(start, min(start + share, first + count)):
                kind, outcome, problem = sender.send(number, seed)
                counts[f"{kind} {outcome}"] += 1
                if problem:
                    wrong.append(f"{number} {kind} {problem}")
            sender.close()
            return counts, wrong

        with ThreadPoolExecutor(WORKERS) as pool:
            results = list(pool.map(work, range(first, first + count, share)))
        wrong = [problem for _, problems in results for problem in problems]
        if self._pid() != before:
            wrong.append(f"Triton ended: {self._reports[-3:]}")
        return sum((counts for counts, _ in results), Counter()), wrong


@contextmanager
def door_fuzz(repository: Path, folder: Path) -> Iterator[DoorFuzz]:
    """Yield what sends requests through a door to a watched Triton."""
    reports: list[str] = []
    with door_serving(repository, folder / "triton.log", reports.append) as server:
        place = Place(folder)
        with place.open(Backend.of(server.endpoints)):
            yield DoorFuzz(place, reports, lambda: server.process.pid)


def test_every_malformed_request_gets_a_sentence(
    saf_repository: Path, tmp_path: Path, scaled: Scaled, result: Result
) -> None:
    count = scaled(100_000)
    with serving(saf_repository, tmp_path) as server:
        tally = fuzz(server.endpoints, lambda: {server.triton, server.stub}, count)
    result(
        f"{count:,} malformed requests over gRPC and HTTP, but for two kinds that kill the bundled Triton",
        f"{len(tally.bad)} without an answer or an error sentence, {len(tally.sentences)} different sentences",
    )
    assert tally.bad == []


@needs_haproxy
def test_no_killer_passes_the_door_and_every_innocent_row_does(
    small_repository: Path, tmp_path: Path, scaled: Scaled, result: Result, request: pytest.FixtureRequest
) -> None:
    count, size = scaled(100_000), scaled(5_000)
    done = Path(request.config.getoption("--resume") or tmp_path / "slices")
    done.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    with door_fuzz(small_repository, tmp_path) as fuzzer:
        for first in range(0, count, size):
            file = done / f"door-{first}-{size}.json"
            if not file.exists():
                file.write_text(json.dumps(fuzzer.run(first, min(size, count - first))), encoding="utf-8")
            of_slice, problems = json.loads(file.read_text(encoding="utf-8"))
            counts.update(of_slice)
            wrong += problems
    kinds = {kind: sum(n for name, n in counts.items() if name.startswith(kind)) for kind in ("killer", "innocent")}
    result(
        f"{count:,} requests through the front door over gRPC and HTTP: {kinds['killer']:,} killers of Triton 24.10 in "
        f"random encodings, {kinds['innocent']:,} rows with their word in the text, malformed ones",
        f"{len(wrong)} killers passed, innocent rows refused, answers missing or ends of Triton",
    )
    assert wrong == []
