"""`to_frame`: outcomes as a frame of pandas, Polars or pyarrow."""

import subprocess
import sys
from importlib.util import find_spec

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from scoremux_client import ScoringClient, frames
from scoremux_client.frames import COLUMNS
from scoremux_client.testing import FakeTransport

TASKS = {"t-1": [0, 0.5, 1], "t-2": [0, 1]}


def test_outcomes_become_a_frame_of_the_library_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScoringClient(FakeTransport(TASKS)) as client:
        scores = client.score([{"task": "t-1", "text": "x", "id": f"<r{n}>"} for n in range(30)])
    frame = scores.to_frame()
    assert type(frame) is pd.DataFrame and list(frame.columns) == ["id", "task", *COLUMNS]
    assert list(frame["level"]) == [2] * 30 and frame["id"][29] == "<r29>"
    monkeypatch.setattr(frames, "find_spec", lambda name: None if name == "pandas" else find_spec(name))
    assert type(scores.to_frame()) is pl.DataFrame
    monkeypatch.setattr(frames, "find_spec", lambda _name: None)
    assert type(scores.to_frame()) is pa.Table
    assert scores[:2] == list(scores)[:2]


def test_types_are_those_of_the_wire_and_a_row_without_a_score_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pd.DataFrame({"task": ["t-1", "nope"], "text": ["one", "two"]}).to_dict("records")
    with ScoringClient(FakeTransport(TASKS)) as client:
        scores = client.score(rows)
        assert list(client.score([]).to_frame().columns) == ["id", "task", *COLUMNS]
    frame = scores.to_frame()
    assert (str(frame["level"].dtype), str(frame["score"].dtype)) == ("int32", "float32")
    assert list(frame["status"]) == ["OK", "UNKNOWN_TASK"] and list(frame["level"]) == [2, -1]
    monkeypatch.setattr(frames, "find_spec", lambda _name: None)
    table = scores.to_frame()
    assert (table.schema.field("level").type, table.schema.field("score").type) == (pa.int32(), pa.float32())
    assert table["score"].null_count == 1 and table["probabilities"].to_pylist() == [[0, 0, 1], []]


def test_no_frame_library_is_imported_unless_it_is_used() -> None:
    code = (
        "import sys, pandas; from scoremux_client import ScoringClient;"
        "from scoremux_client.testing import FakeTransport;"
        "client = ScoringClient(FakeTransport({'t': [0, 1]}));"
        "client.score([{'task': 't', 'text': 'x'}]).to_frame();"
        "print('polars' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
