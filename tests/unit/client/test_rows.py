"""Rows to wire tensors and back."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import deserialize_bytes_tensor

from scoremux_client import contract
from scoremux_client.answer_columns import decode
from scoremux_client.contract import Status
from scoremux_client.errors import InputError, RejectedError
from scoremux_client.rows import Response, encode, to_bytes

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
        **replaced,
    }
    return {name: column for name, column in columns.items() if column is not None}


def test_rows_become_one_column_of_bytes_an_input() -> None:
    arrays = encode(ROWS)
    assert set(arrays) == {spec.name for spec in contract.INPUTS}
    assert arrays["TEXT"].tolist() == [[b"secret"], [b"other"]]
    assert arrays["TASK"].tolist() == [[b"t-1"], [b"t-2@" + b"a" * 64]]


@pytest.mark.parametrize("text", ["", "Straße ä\u0308 日本 😀", "nul \0 at the end\0", "two\nlines\r\n", " "])
def test_a_text_survives_the_wire_byte_for_byte(text: str) -> None:
    array = encode([Response("t-1", text), Response("t-1", "x" * 100)])["TEXT"]
    tensor = triton.InferInput("TEXT", list(array.shape), "BYTES")
    tensor.set_data_from_numpy(array)
    assert deserialize_bytes_tensor(tensor._get_content())[0] == text.encode()


def test_bytes_are_sent_as_they_are_and_half_a_surrogate_pair_as_no_utf8() -> None:
    assert to_bytes(b"\xff\xfe") == b"\xff\xfe"
    with pytest.raises(UnicodeDecodeError):
        to_bytes("half \ud800").decode()


@pytest.mark.parametrize("text", [None, 7, NAN])
def test_a_text_that_is_no_text_is_refused_as_input(text: Any) -> None:
    with pytest.raises(InputError):
        encode([Response("t-1", text)])


def test_a_scored_row_comes_back_whole() -> None:
    scored = decode(ROWS, answer())[0]
    assert (scored.task, scored.id, scored.status, scored.ok) == ("t-1", "r1", Status.OK, True)
    assert (scored.level, scored.score, scored.probabilities) == (1, 0.5, (0.25, 0.75))
    assert (scored.version, scored.tokens, scored.truncated) == ("d" * 64, 7, True)
    assert (scored.confidence, scored.condition, scored.route, scored.to_human) == (0.5, "I", "human:CONDITION", True)
    assert (scored.level_range, scored.arithmetic) == ((0, 1), "x86-f32")


def test_a_row_without_a_score_has_level_minus_one_no_points_and_no_probabilities() -> None:
    scored = decode(ROWS, answer())[1]
    assert (scored.status, scored.ok, scored.level) == (Status.UNKNOWN_TASK, False, -1)
    assert scored.score is None
    assert (scored.probabilities, scored.version, scored.id) == ((), "", None)
    assert (scored.confidence, scored.condition, scored.route, scored.to_human) == (None, "", "", False)
    assert scored.level_range is None


@pytest.mark.parametrize("name", [spec.name for spec in contract.OUTPUTS])
def test_a_tensor_that_is_missing_or_has_another_number_of_rows_is_refused_by_name(name: str) -> None:
    with pytest.raises(RejectedError, match=rf"no {name};"):
        decode(ROWS, answer(**{name: None}))
    with pytest.raises(RejectedError, match=rf"{name} has 1 rows where 2 were sent"):
        decode(ROWS, answer(**{name: answer()[name][:1]}))


@pytest.mark.parametrize(("name", "shape"), [("LEVEL_RANGE", (2, 1)), ("CONFIDENCE", (2,)), ("LEVEL", (2, 2))])
def test_a_tensor_with_rows_of_another_shape_is_refused_by_name(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(RejectedError, match=f"{name} has rows of shape"):
        decode(ROWS, answer(**{name: np.zeros(shape, dtype=answer()[name].dtype)}))


def test_embeddings_come_back_with_the_rows_that_have_a_score() -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    scored, none = decode(ROWS, answer(EMBEDDING=vectors))
    assert scored.embedding is not None and scored.embedding.tolist() == [0, 1, 2]
    assert none.embedding is None
    assert repr([scored, none]) == repr(decode(ROWS, answer()))
    with pytest.raises(RejectedError, match="EMBEDDING has 1 rows where 2 were sent"):
        decode(ROWS, answer(EMBEDDING=vectors[:1]))


NOT_ALLOWED = [
    ("STATUS", np.array([[b"OK"], [b"FROM_THE_FUTURE"]], np.object_), "unknown STATUS .*; upgrade scoremux"),
    ("VERSION", np.array([[b"the dog ate it"], [b""]], np.object_), "unknown VERSION"),
    ("CONDITION", np.array([[b"I\x1b[2J"], [b""]], np.object_), "unknown CONDITION"),
    ("ROUTE", np.array([[b"\xff"], [b""]], np.object_), "unknown ROUTE"),
    ("LEVEL", np.array([[1.5], [-1]], np.float32), "LEVEL is float32, not INT32"),
    ("LEVEL", np.array([[2], [-1]], np.int32), "LEVEL is not what"),
    ("LEVEL", np.array([[-1], [-1]], np.int32), "LEVEL is not what"),
    ("LEVEL", np.array([[1], [0]], np.int32), "LEVEL is not what"),
    ("SCORE", np.array([[NAN], [0]], np.float32), "SCORE is not what"),
    ("SCORE", np.array([[math.inf], [0]], np.float32), "SCORE is not what"),
    ("SCORE", np.array([[contract.NO_SCORE], [0]], np.float32), "SCORE is not what"),
    ("PROBABILITIES", np.array([[0.25, NAN, 0], [0, 0, 0]], np.float32), "PROBABILITIES is not what"),
    ("PROBABILITIES", np.array([[0.75, 0.75, 0], [0, 0, 0]], np.float32), "PROBABILITIES is not what"),
    ("PROBABILITIES", np.array([[0.5, 0, 0.5], [0, 0, 0]], np.float32), "PROBABILITIES is not what"),
    ("PROBABILITIES", np.array([[0.25, 0.75, 0], [1, 0, 0]], np.float32), "PROBABILITIES is not what"),
    ("TOKENS", np.array([[-7], [0]], np.int32), "TOKENS is not what"),
    ("CONFIDENCE", np.array([[1.5], [-1]], np.float32), "CONFIDENCE is not what"),
    ("CONFIDENCE", np.array([[0.5], [0.5]], np.float32), "CONFIDENCE is not what"),
    ("LEVEL_RANGE", np.array([[0, 0], [-1, -1]], np.int32), "LEVEL_RANGE is not what"),
    ("EMBEDDING", np.zeros((2, 3)), "EMBEDDING is float64, not FP32"),
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
