"""`task.json`: what is read and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scoremux_engine.errors import PackageError
from scoremux_engine.packages.task import Task

GOOD = {"id": "en-6.3-ipp", "levels": [0, 0.25, 1], "question": "Warum?", "language": "de"}


def read(folder: Path, content: Any) -> Task:
    """Write `task.json`, as bytes or as JSON, and read it."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / "task.json").write_bytes(data)
    return Task.read(folder)


def test_description_is_read(tmp_path: Path) -> None:
    task = read(tmp_path, GOOD)
    assert (task.id, task.levels, task.question, task.language) == ("en-6.3-ipp", (0.0, 0.25, 1.0), "Warum?", "de")
    task = read(tmp_path, {"id": "t", "levels": [-1, -0.5, 0]})
    assert (task.levels, task.question, task.language) == ((-1.0, -0.5, 0.0), "", "")


@pytest.mark.parametrize("id_", ["a", "7", "A.b_c-d", "x" * 128])
def test_valid_id_is_read(tmp_path: Path, id_: str) -> None:
    assert read(tmp_path, {**GOOD, "id": id_}).id == id_


@pytest.mark.parametrize("id_", ["", "-a", ".a", "a b", "a@b", "a/b", "a\n", "ä", "x" * 129, "../a", None, 7, ["a"]])
def test_invalid_id_is_refused(tmp_path: Path, id_: Any) -> None:
    with pytest.raises(PackageError, match=r"task\.json: id: "):
        read(tmp_path, {**GOOD, "id": id_})


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    "levels",
    [
        *([], [1], [1, 0], [0, 1, 1], [0, NAN], [0, INFINITY], [-INFINITY, 0], ["low", "high"]),
        *(list(range(1001)), {"0": 1}, 3, None),
    ],
    ids=str,
)
def test_levels_that_are_not_ascending_numbers_are_refused(tmp_path: Path, levels: Any) -> None:
    with pytest.raises(PackageError, match=r"task\.json: levels(\.\d+)?: "):
        read(tmp_path, {**GOOD, "levels": levels})


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"levels": [0, 1]}, "id: Field required"),
        ({"id": "t"}, "levels: Field required"),
        ({**GOOD, "lvels": [0, 1]}, "lvels: "),
        ({**GOOD, "id": "a b", "extra": 1}, "id: .*; extra: "),
        *((data, "it is not (JSON|a JSON object)$") for data in (b"", b"{", b"[]", b"null", b'"text"', b"{'id': 1}")),
        (b'{"id": "t", "levels": [0, 1], "question": "\xe4"}', "it is not JSON$"),
    ],
)
def test_malformed_description_is_refused_by_key(tmp_path: Path, content: Any, why: str) -> None:
    with pytest.raises(PackageError, match=rf"task\.json: {why}"):
        read(tmp_path, content)


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=rf"{tmp_path}/task\.json cannot be read: No such file"):
        Task.read(tmp_path)
    with pytest.raises(PackageError, match=r"task\.json cannot be read: it is larger than 1048576 bytes"):
        read(tmp_path, {**GOOD, "question": "x" * (1 << 20)})
    (tmp_path / "task.json").unlink()
    (tmp_path / "task.json").mkdir()
    with pytest.raises(PackageError, match=r"task\.json cannot be read"):
        Task.read(tmp_path)
