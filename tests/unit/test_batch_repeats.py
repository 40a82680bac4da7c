"""Ids that are there more than once."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from scoremux_cli.batch import repeats as module
from scoremux_cli.batch.repeats import Repeats


@pytest.mark.parametrize("buffer", [1, 100, 1 << 20])
def test_repeated_ids_are_counted_and_named_however_they_come(monkeypatch: pytest.MonkeyPatch, buffer: int) -> None:
    monkeypatch.setattr(module, "_BUFFER", buffer)
    draw = random.Random(1)
    ids = [f"r{draw.randrange(3000)}" for _ in range(2000)] + ["", "", "only"]
    many = {id_: count for id_, count in Counter(ids).items() if count > 1}
    with Repeats() as repeats:
        for start in range(0, len(ids), 70):
            repeats.add(ids[start : start + 70])
        repeats.close()
        found = list(repeats.among(ids, ["f"] * len(ids), range(len(ids))))
    assert (repeats.ids, repeats.rows) == (len(many), sum(many.values()))
    assert found == [{"id": id_, "source": "f", "line": n} for n, id_ in enumerate(ids) if id_ in many]


def test_without_repeated_ids_there_is_nothing_to_say() -> None:
    with Repeats() as repeats:
        repeats.add(["a", "b"])
        repeats.close()
        assert (repeats.ids, repeats.rows) == (0, 0)
        assert list(repeats.among(["a"], ["f"], [1])) == []


def test_nothing_is_left_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Repeats() as repeats:
        repeats.add(["a", "a"])
        repeats.close()
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
