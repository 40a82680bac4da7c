"""`task.json`: what is read and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scoremux_engine.errors import PackageError
from scoremux_engine.packages.task import Task

GOOD = {"id": "en-6.3-ipp", "levels": [0, 0.25, 1], "question": "Warum?", "language": "de"}


def write(folder: Path, content: Any) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "task.json").write_text(text, encoding="utf-8")
    return folder


def test_a_whole_description_is_read(tmp_path: Path) -> None:
    task = Task.read(write(tmp_path, GOOD))
    assert (task.id, task.levels, task.question, task.language) == ("en-6.3-ipp", (0.0, 0.25, 1.0), "Warum?", "de")


def test_question_and_language_may_be_left_out(tmp_path: Path) -> None:
    task = Task.read(write(tmp_path, {"id": "t", "levels": [0, 1]}))
    assert (task.question, task.language) == ("", "")


@pytest.mark.parametrize("id_", ["a", "7", "A.b_c-d", "x" * 128])
def test_ids_of_letters_digits_and_three_marks_are_taken(tmp_path: Path, id_: str) -> None:
    assert Task.read(write(tmp_path, {**GOOD, "id": id_})).id == id_


@pytest.mark.parametrize("id_", ["", "-a", ".a", "a b", "a@b", "a/b", "a\n", "ä", "x" * 129, "../a", None, 7, ["a"]])
def test_other_ids_are_refused_by_name(tmp_path: Path, id_: Any) -> None:
    with pytest.raises(PackageError, match=r"task\.json: id: "):
        Task.read(write(tmp_path, {**GOOD, "id": id_}))


@pytest.mark.parametrize(
    "levels",
    [
        [],
        [1],
        [1, 0],
        [0, 1, 1],
        [0, float("nan")],
        [0, float("inf")],
        [float("-inf"), 0],
        ["low", "high"],
        list(range(1001)),
        {"0": 1},
        3,
        None,
    ],
    ids=str,
)
def test_levels_that_are_no_ascending_scale_are_refused_by_name(tmp_path: Path, levels: Any) -> None:
    with pytest.raises(PackageError, match=r"task\.json: levels(\.\d+)?: "):
        Task.read(write(tmp_path, {**GOOD, "levels": levels}))


def test_negative_points_are_a_scale_too(tmp_path: Path) -> None:
    assert Task.read(write(tmp_path, {**GOOD, "levels": [-1, -0.5, 0]})).levels == (-1.0, -0.5, 0.0)


@pytest.mark.parametrize("missing", ["id", "levels"])
def test_a_missing_key_is_refused_by_name(tmp_path: Path, missing: str) -> None:
    with pytest.raises(PackageError, match=rf"task\.json: {missing}: Field required"):
        Task.read(write(tmp_path, {key: value for key, value in GOOD.items() if key != missing}))


def test_an_unknown_key_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"task\.json: lvels: "):
        Task.read(write(tmp_path, {**GOOD, "lvels": [0, 1]}))


def test_everything_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"id: .*; extra: "):
        Task.read(write(tmp_path, {**GOOD, "id": "a b", "extra": 1}))


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"text"', "{'id': 1}"])
def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(PackageError, match=r"task\.json: it is not (JSON|a JSON object)$"):
        Task.read(write(tmp_path, content))


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    (tmp_path / "task.json").write_bytes(b'{"id": "t", "levels": [0, 1], "question": "\xe4"}')
    with pytest.raises(PackageError, match=r"task\.json: it is not JSON$"):
        Task.read(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=rf"{tmp_path}/task\.json cannot be read: No such file"):
        Task.read(tmp_path)


def test_a_folder_in_the_files_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "task.json").mkdir()
    with pytest.raises(PackageError, match=r"task\.json cannot be read"):
        Task.read(tmp_path)


def test_a_file_too_big_to_be_sane_is_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"task\.json cannot be read: it is larger than 1048576 bytes"):
        Task.read(write(tmp_path, {**GOOD, "question": "x" * (1 << 20)}))
