"""`score_frame`: the same outcomes in the columns of pandas, Polars and pyarrow."""

import math
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from scoremux_client import InputError, ScoringClient, frames
from scoremux_client.frames import COLUMNS
from scoremux_client.testing import FakeTransport

TASKS = {"t-1": [0, 0.5, 1], "t-2": [0, 1]}
DATA: dict[str, list[Any]] = {
    "item": ["t-1", "t-2", "t-1", "nope", None, "t-1"],
    "answer": ["one", "two", None, "four", "five", "one"],
    "grade": [4, 5, 6, 7, 8, 9],
}
STATUSES = ["OK", "OK", "INVALID_TEXT", "UNKNOWN_TASK", "INVALID_TASK", "OK"]

MAKERS: list[Callable[[dict[str, list[Any]]], Any]] = [
    pd.DataFrame,
    lambda data: pd.DataFrame(data).convert_dtypes(),
    lambda data: pd.DataFrame(data).convert_dtypes(dtype_backend="pyarrow"),
    pl.DataFrame,
    pa.table,
    lambda data: pa.RecordBatch.from_pydict(data),
]


def score(frame: Any, **options: Any) -> Any:
    with ScoringClient(FakeTransport(TASKS)) as client:
        return client.score_frame(frame, task="item", text="answer", **options)


def column(frame: Any, name: str) -> list[Any]:
    values = frame[name]
    found: list[Any] = values.to_pylist() if hasattr(values, "to_pylist") else list(values)
    return found


@pytest.mark.parametrize("make", MAKERS)
def test_the_same_kind_comes_back_with_columns_added(make: Callable[[Any], Any]) -> None:
    frame = make(DATA)
    scored = score(frame)
    assert type(scored) is (pa.Table if isinstance(frame, pa.RecordBatch) else type(frame))
    assert column(scored, "status") == STATUSES
    assert column(scored, "level") == [2, 1, -1, -1, -1, 2]
    assert [p is None or math.isnan(p) for p in column(scored, "score")] == [s != "OK" for s in STATUSES]
    assert [list(p) for p in column(scored, "probabilities")] == [[0, 0, 1], [0, 1], [], [], [], [0, 0, 1]]
    assert column(scored, "tokens") == [3, 3, 0, 0, 0, 3]
    assert column(scored, "truncated") == [False] * 6
    assert len(column(scored, "version")[0]) == 64
    assert column(scored, "grade") == DATA["grade"]
    assert len(list(frame.columns)) == 3  # the caller's own frame is as it was


@pytest.mark.parametrize("make", MAKERS)
def test_a_frame_without_rows_gets_its_columns(make: Callable[[Any], Any]) -> None:
    scored = score(make({"item": [], "answer": []}))
    names = getattr(scored, "column_names", None) or list(getattr(scored, "columns", []))
    names = names if isinstance(names[0], str) else scored.schema.names
    assert names == ["item", "answer", *COLUMNS]
    assert column(scored, "level") == []


def test_types_are_the_wires_own_and_an_index_of_pandas_stays() -> None:
    in_pandas, in_polars, in_arrow = (score(make(DATA)) for make in (pd.DataFrame, pl.DataFrame, pa.table))
    assert (str(in_pandas["level"].dtype), str(in_pandas["score"].dtype)) == ("int32", "float32")
    assert (in_polars["level"].dtype, in_polars["score"].dtype) == (pl.Int32, pl.Float32)
    assert in_polars["score"].to_list()[2] is None
    assert (in_arrow.schema.field("level").type, in_arrow.schema.field("score").type) == (pa.int32(), pa.float32())
    assert in_arrow["score"].null_count == 3
    frame = pd.DataFrame(DATA, index=[9, 9, 3, 2, 1, 0])
    assert list(score(frame).index) == [9, 9, 3, 2, 1, 0]


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_columns_that_do_not_fit_are_named(make: Callable[[Any], Any]) -> None:
    with pytest.raises(InputError, match="0 columns 'answer'; it has item, text"):
        score(make({"item": ["t-1"], "text": ["x"]}))
    frame = make({**DATA, "level": DATA["grade"], "machine_level": DATA["grade"]})
    with pytest.raises(InputError, match="has columns machine_level already"):
        score(frame)
    with pytest.raises(InputError, match="row 0: task and text are str and int"):
        score(make({"item": ["t-1"], "answer": [1]}))


@pytest.mark.parametrize("make", MAKERS)
def test_levels_of_people_stay_beside_the_machines(make: Callable[[Any], Any]) -> None:
    scored = score(make({**DATA, "level": DATA["grade"]}))
    assert column(scored, "level") == DATA["grade"]
    assert column(scored, "machine_level") == [2, 1, -1, -1, -1, 2]
    assert column(scored, "status") == STATUSES


def test_outcomes_become_a_frame_and_a_table_of_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScoringClient(FakeTransport(TASKS)) as client:
        scores = client.score([{"task": "t-1", "text": "secret", "id": f"<r{n}>"} for n in range(30)])
    frame = scores.to_frame()
    assert type(frame) is pd.DataFrame and list(frame.columns) == ["id", "task", *COLUMNS]
    assert list(frame["level"]) == [2] * 30 and frame["id"][29] == "<r29>"
    monkeypatch.setattr(frames, "find_spec", lambda name: None if name == "pandas" else find_spec(name))
    assert type(scores.to_frame()) is pl.DataFrame
    monkeypatch.setattr(frames, "find_spec", lambda _name: None)
    assert type(scores.to_frame()) is pa.Table
    shown = scores._repr_html_()
    assert shown.count("<tr>") == 21 and "30 rows; the first 20 are shown" in shown
    assert "<td>&lt;r0&gt;</td><td>t-1</td><td>OK</td><td>2</td><td>1.00</td>" in shown and "secret" not in shown
    assert scores[:2] == list(scores)[:2]


class Relation:
    """A frame of another library, which has Arrow's interface and cannot be made from a table."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        return pa.table(DATA).__arrow_c_stream__(requested_schema)


class Polars(pl.DataFrame):
    def __init__(self) -> None:
        super().__init__(DATA)


@pytest.mark.parametrize("frame", [Relation(), Polars()], ids=["other", "subclass"])
def test_frame_of_another_library_comes_back_as_a_table(frame: Any) -> None:
    scored = score(frame)
    assert type(scored) is pa.Table and column(scored, "status") == STATUSES


def test_what_is_no_frame_or_holds_what_arrow_cannot_is_named_without_its_cells() -> None:
    with pytest.raises(InputError, match=r"builtins\.dict is not a data frame with Arrow's interface"):
        score(DATA)
    with pytest.raises(InputError, match=r"polars\.LazyFrame is not a data frame .*call \.collect\(\) first"):
        score(pl.DataFrame(DATA).lazy())
    with pytest.raises(InputError, match=r"pandas\.DataFrame has a column that Arrow cannot hold") as error:
        score(pd.DataFrame({"item": ["t-1", "t-2"], "answer": ["secret", 7]}))
    assert "secret" not in str(error.value)


def test_no_frame_library_is_imported_unless_it_is_used() -> None:
    code = (
        "import sys, pandas; from scoremux_client import ScoringClient;"
        "from scoremux_client.testing import FakeTransport;"
        "client = ScoringClient(FakeTransport({'t': [0, 1]}));"
        "client.score_frame(pandas.DataFrame({'task': ['t'], 'text': ['x']}));"
        "print('polars' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
