"""Public names, and rows to and from the wire; every text comes back as it was sent."""

import asyncio
import math
import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import deserialize_bytes_tensor

import scoremux
from scoremux_client import AsyncScoringClient, InputError, Response, ScoringClient, contract
from scoremux_client.answer_columns import decode
from scoremux_client.contract import Status
from scoremux_client.errors import RejectedError
from scoremux_client.rows import encode, to_bytes
from scoremux_client.testing import FakeTransport

NAN = math.nan
ROWS = [Response("t-1", "secret", "r1"), Response("t-2@" + "a" * 64, "other", None)]


def answer(**replaced: npt.NDArray[Any] | None) -> dict[str, npt.NDArray[Any]]:
    """A right answer to ROWS, the second row without a score; None takes a tensor out."""
    columns: dict[str, npt.NDArray[Any] | None] = {
        "STATUS": np.array([[b"OK"], [b"UNKNOWN_TASK"]], dtype=np.object_),
        "LEVEL": np.array([[1], [-1]], dtype=np.int32),
        "SCORE": np.array([[0.5], [contract.NO_SCORE]], dtype=np.float32),
        "PROBABILITIES": np.array([[0.25, 0.75, 0], [0, 0, 0]], dtype=np.float32),
        "VERSION": np.array([[b"d" * 64], [b""]], dtype=np.object_),
        "TOKENS": np.array([[7], [0]], dtype=np.int32),
        "TRUNCATED": np.array([[True], [False]]),
        "CONFIDENCE": np.array([[0.5], [-1]], dtype=np.float32),
        "CONDITION": np.array([[b"I"], [b""]], dtype=np.object_),
        "ROUTE": np.array([[b"human:CONDITION"], [b""]], dtype=np.object_),
        "LEVEL_RANGE": np.array([[0, 1], [-1, -1]], dtype=np.int32),
        "ARITHMETIC": np.array([[b"x86-f32"], [b""]], dtype=np.object_),
        "FEEDBACK": np.array([["Très bien".encode()], [b""]], dtype=np.object_),
        **replaced,
    }
    return {name: column for name, column in columns.items() if column is not None}


def test_rows_become_a_column_of_bytes_an_input_as_they_are_and_what_is_no_text_is_refused() -> None:
    arrays = encode(ROWS)
    assert set(arrays) == {spec.name for spec in contract.INPUTS}
    assert arrays["TEXT"].tolist() == [[b"secret"], [b"other"]]
    assert arrays["TASK"].tolist() == [[b"t-1"], [b"t-2@" + b"a" * 64]]
    assert to_bytes(b"\xff\xfe") == b"\xff\xfe"
    with pytest.raises(UnicodeDecodeError):
        to_bytes("half \ud800").decode()
    for text in (None, 7, NAN):
        with pytest.raises(InputError):
            encode([Response("t-1", text)])  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "Straße ä\u0308 日本 😀", "nul \0 at the end\0", "two\nlines\r\n", " "])
def test_a_text_survives_the_wire_byte_for_byte(text: str) -> None:
    array = encode([Response("t-1", text), Response("t-1", "x" * 100)])["TEXT"]
    tensor = triton.InferInput("TEXT", list(array.shape), "BYTES")
    tensor.set_data_from_numpy(array)
    assert deserialize_bytes_tensor(tensor._get_content())[0] == text.encode()


def test_a_row_comes_back_whole_or_without_score_points_and_probabilities() -> None:
    scored = decode(ROWS, answer())[0]
    assert (scored.task, scored.id, scored.status, scored.ok) == ("t-1", "r1", Status.OK, True)
    assert (scored.level, scored.score, scored.probabilities) == (1, 0.5, (0.25, 0.75))
    assert (scored.version, scored.tokens, scored.truncated) == ("d" * 64, 7, True)
    assert (scored.confidence, scored.condition, scored.route, scored.to_human) == (0.5, "I", "human:CONDITION", True)
    assert (scored.level_range, scored.arithmetic, scored.feedback) == ((0, 1), "x86-f32", "Très bien")
    scored = decode(ROWS, answer())[1]
    assert (scored.status, scored.ok, scored.level) == (Status.UNKNOWN_TASK, False, -1)
    assert scored.score is None
    assert (scored.probabilities, scored.version, scored.id) == ((), "", None)
    assert (scored.confidence, scored.condition, scored.route, scored.to_human) == (None, "", "", False)
    assert scored.level_range is None


@pytest.mark.parametrize("name", [spec.name for spec in contract.OUTPUTS])
def test_a_tensor_that_is_missing_or_has_another_number_of_rows_is_refused_by_name(name: str) -> None:
    if name != contract.FEEDBACK.name:  # which transports of users may leave out
        with pytest.raises(RejectedError, match=rf"no {name};"):
            decode(ROWS, answer(**{name: None}))
    with pytest.raises(RejectedError, match=rf"{name} has 1 rows where 2 were sent"):
        decode(ROWS, answer(**{name: answer()[name][:1]}))


def test_embeddings_come_back_with_the_rows_that_have_a_score() -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    scored, none = decode(ROWS, answer(EMBEDDING=vectors))
    assert scored.embedding is not None and scored.embedding.tolist() == [0, 1, 2]
    assert none.embedding is None
    assert repr([scored, none]) == repr(decode(ROWS, answer()))
    with pytest.raises(RejectedError, match="EMBEDDING has 1 rows where 2 were sent"):
        decode(ROWS, answer(EMBEDDING=vectors[:1]))


WRONG_NUMBERS = {
    "LEVEL": ([[2], [-1]], [[-1], [-1]], [[1], [0]]),
    "SCORE": ([[NAN], [0]], [[math.inf], [0]], [[contract.NO_SCORE], [0]]),
    "PROBABILITIES": (
        [[0.25, NAN, 0], [0, 0, 0]],
        [[0.75, 0.75, 0], [0, 0, 0]],
        [[0.5, 0, 0.5], [0, 0, 0]],
        [[0.25, 0.75, 0], [1, 0, 0]],
    ),
    "TOKENS": ([[-7], [0]],),
    "CONFIDENCE": ([[1.5], [-1]], [[0.5], [0.5]]),
    "LEVEL_RANGE": ([[0, 0], [-1, -1]],),
}
NOT_ALLOWED = [
    ("STATUS", np.array([[b"OK"], [b"FROM_THE_FUTURE"]], np.object_), "unknown STATUS .*; upgrade scoremux"),
    ("VERSION", np.array([[b"the dog ate it"], [b""]], np.object_), "unknown VERSION"),
    ("CONDITION", np.array([[b"I\x1b[2J"], [b""]], np.object_), "unknown CONDITION"),
    ("ROUTE", np.array([[b"\xff"], [b""]], np.object_), "unknown ROUTE"),
    ("LEVEL", np.array([[1.5], [-1]], np.float32), "LEVEL is float32, not INT32"),
    ("EMBEDDING", np.zeros((2, 3)), "EMBEDDING is float64, not FP32"),
    ("LEVEL_RANGE", np.zeros((2, 1), np.int32), "LEVEL_RANGE has rows of shape"),
    ("CONFIDENCE", np.zeros(2, np.float32), "CONFIDENCE has rows of shape"),
    ("LEVEL", np.zeros((2, 2), np.int32), "LEVEL has rows of shape"),
    *(
        (name, np.array(values, answer()[name].dtype), f"{name} is not what")
        for name, several in WRONG_NUMBERS.items()
        for values in several
    ),
]


@pytest.mark.parametrize(("name", "column", "sentence"), NOT_ALLOWED)
def test_output_that_contract_does_not_allow_is_refused(name: str, column: Any, sentence: str) -> None:
    with pytest.raises(RejectedError, match=sentence) as caught:
        decode(ROWS, answer(**{name: column}))
    assert "dog" not in str(caught.value) and "\x1b" not in str(caught.value)


@pytest.mark.parametrize("text", ["secret", None, 7, ["secret"]])
def test_a_response_is_shown_without_its_text(text: Any) -> None:
    shown = repr(Response("t-1", text))
    assert "secret" not in shown
    assert isinstance(text, str) or shown == f"Response(task='t-1', id=None, text=<{type(text).__name__}>)"


def test_every_public_name_is_there() -> None:
    assert {"Client", "Engine", "Response"} <= set(dir(scoremux))
    for name in dir(scoremux):
        assert getattr(scoremux, name) is not None
    with pytest.raises(AttributeError, match="nobody"):
        getattr(scoremux, "nobody")  # noqa: B009


def test_importing_it_and_its_client_loads_numpy_only() -> None:
    code = "import sys, scoremux; scoremux.Client; print(*sorted({n.partition('.')[0] for n in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {
        "scoremux_engine",
        "scoremux_evidence",
        "openvino",
        "pydantic",
        "tritonclient",
        "grpc",
        "httpx",
        "onnxruntime",
    }
    assert "numpy" in loaded
    assert not (heavy | {"torch", "transformers", "peft", "tokenizers", "pyarrow", "typer", "rich"}) & set(loaded)


def test_name_without_its_extra_says_how_to_install_it() -> None:
    code = "import sys; sys.modules['tokenizers'] = None; import scoremux; scoremux.Engine"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = ended.stderr.strip().splitlines()[-1]
    assert last == "ImportError: scoremux.Engine needs tokenizers: pip install 'scoremux[serve]'"


def test_a_base_installation_completes_and_imports_the_names_that_it_has() -> None:
    code = (
        "import importlib.util as u, rlcompleter, sys; found = u.find_spec;"
        "u.find_spec = lambda name, *of: None if name == 'tokenizers' else found(name, *of);"
        "sys.modules.update(dict.fromkeys(('tokenizers', 'pydantic', 'pyarrow', 'typer')));"
        "from scoremux import *; import scoremux;"
        "completer = rlcompleter.Completer({'scoremux': scoremux});"
        "print(Client.__name__, completer.complete('scoremux.Cl', 0), 'Engine' in dir(scoremux))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "Client scoremux.Client( False\n"


def test_agreement_of_two_columns() -> None:
    found = scoremux.agreement([0, 1, 2, 1], [0, 1, 2, 2], [0, 1, None, 1])
    assert (found.n, found.exact, found.adjacent, found.human_exact) == (4, 0.75, 1.0, 1.0)
    assert found.qwk == pytest.approx(0.8)
    assert math.isnan(scoremux.agreement([], []).qwk)
    assert math.isnan(scoremux.agreement(np.array([1, 1]), np.array([1, 1])).human_qwk)
    with pytest.raises(ValueError, match="differ in length"):
        scoremux.agreement([0, 1], [0])


ROW = Response("t-1", "secret answer")


def test_single_row_is_refused_with_what_to_pass() -> None:
    with ScoringClient(FakeTransport({"t-1": [0, 1]})) as client:
        for given in (ROW, None):
            with pytest.raises(InputError, match=r"client\.score\(\[Response\(…\)\]\)") as refused:
                client.score(given)  # type: ignore[arg-type]
            assert "secret" not in str(refused.value)

    async def score() -> None:
        async with AsyncScoringClient(FakeTransport({"t-1": [0, 1]})) as client:
            await client.score(ROW)  # type: ignore[arg-type]

    with pytest.raises(InputError, match="rows are of type Response"):
        asyncio.run(score())
