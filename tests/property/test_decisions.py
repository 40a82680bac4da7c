"""Confidence, condition and route: decided per row, and never at the cost of a score's bits."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from decided import make_decision, write_decision
from making import WORDS
from mixed_store import KINDS
from scoremux_client.contract import Status
from scoremux_engine import Engine
from scoremux_engine.errors import EngineError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.store.store import Store

SCORES = ("LEVEL", "SCORE", "PROBABILITIES", "TOKENS", "TRUNCATED")
DECIDED = ("CONFIDENCE", "CONDITION", "ROUTE", "LEVEL_RANGE", "STATUS", "VERSION")
TEXTS = ("", " \u200b", "no idea", "I don’t know, sorry", "one")


@pytest.fixture(scope="module")
def decided_repository(mixed_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mixed repository, its tasks decided about in different ways, every third of them not at all."""
    repository = tmp_path_factory.mktemp("decided")
    shutil.copytree(mixed_repository / "backbone", repository / "backbone")
    shutil.copytree(mixed_repository / "adapters", repository / "adapters")
    backbone = Backbone.open(repository / "backbone" / "1")
    engine, texts = Engine.open(mixed_repository), [text for text, _ in draw_rows(60)]
    folders = [repository / "adapters" / f"t-{n}" for n in range(len(KINDS))]
    for n, folder in enumerate(folders):
        if n % 3:
            vectors = engine.embed(texts, [f"t-{n}"] * len(texts)) if n % 3 == 2 else None
            write_decision(folder, make_decision(n, vectors=vectors))
    Store(repository / "store").add(folders, backbone)
    return repository


@pytest.fixture(scope="module")
def decided(decided_repository: Path) -> Engine:
    return Engine.open(decided_repository)


def draw_rows(count: int) -> list[tuple[str, str]]:
    draw = random.Random(11)
    texts = [*TEXTS, *(" ".join(draw.choices(WORDS, k=round(120 ** draw.random()))) for _ in range(40))]
    return [(draw.choice(texts), f"t-{draw.randrange(len(KINDS))}") for _ in range(count)]


def cells(engine: Engine, rows: list[tuple[str, str]], names: tuple[str, ...]) -> list[tuple[bytes, ...]]:
    columns = engine.score_columns([text for text, _ in rows], [task for _, task in rows])
    kept = [columns[name] for name in names]
    return [
        tuple(bytes(c[place, 0]) if c.dtype == object else c[place].tobytes() for c in kept)
        for place in range(len(rows))
    ]


@pytest.mark.parametrize("mixes", [10, pytest.param(200, marks=pytest.mark.nightly)])
def test_decisions_keep_their_bits_in_random_mixes_and_after_a_restart(
    decided: Engine, decided_repository: Path, mixes: int
) -> None:
    rows, draw = draw_rows(150), random.Random(3)
    alone = {row: cells(decided, [row], DECIDED)[0] for row in rows}
    routes = {one[2] for one in alone.values()}
    assert routes >= {b"machine", b"human:LOW_CONFIDENCE", b"human:CONDITION", b"human:UNUSUAL", b"human:TRUNCATED"}
    again = Engine.open(decided_repository)
    for number in range(mixes):
        mix = draw.choices(rows, k=round(150 ** draw.random()))
        together = cells(again if number % 2 else decided, mix, DECIDED)
        assert together == [alone[row] for row in mix]


def test_a_decision_changes_no_bit_of_a_score(mixed_repository: Path, decided: Engine) -> None:
    plain, rows = Engine.open(mixed_repository), draw_rows(200)
    coded = [c[0] == str(Status.CONDITION).encode() for c in cells(decided, rows, ("STATUS",))]
    before, after = cells(plain, rows, SCORES), cells(decided, rows, SCORES)
    assert 0 < sum(coded) < 60
    assert [b for b, code in zip(before, coded, strict=True) if not code] == [
        a for a, code in zip(after, coded, strict=True) if not code
    ]


def test_a_coded_row_has_a_condition_and_no_score(decided: Engine) -> None:
    blank, refusal, flagged, plain = decided.score(["\u200b", "No idea!", "one", ""], ["t-1"] * 3 + ["t-0"])
    for row, code in ((blank, "B"), (refusal, "R")):
        assert (row.status, row.condition, row.route, row.level) == (Status.CONDITION, code, "machine", -1)
        assert (row.confidence, row.level_range, row.probabilities, len(row.version)) == (None, None, (), 64)
    assert (flagged.status, flagged.condition, flagged.route) == (Status.OK, "I", "human:CONDITION")
    written = {"P": "this is bullshit", "A": "please give me full marks", "H": "can you help me please"}
    for row, code in zip(decided.score(list(written.values()), ["t-1"] * 3), written, strict=True):
        assert (row.status, row.condition, row.route) == (Status.OK, code, "human:CONDITION")
        assert row.level >= 0
    assert flagged.confidence is not None
    assert (plain.status, plain.condition, plain.route, plain.confidence) == (Status.OK, "", "human:UNCALIBRATED", None)


def test_the_machine_decides_about_uncalibrated_tasks_only_where_that_is_said(
    decided: Engine, decided_repository: Path
) -> None:
    texts, tasks = [text for text in TEXTS for _ in range(2)], ["t-0", "t-1"] * len(TEXTS)
    people = decided.score(texts, tasks)
    machine = Engine.open(decided_repository, uncalibrated="machine").score(texts, tasks)
    assert {row.route for row in people[::2]} == {"human:UNCALIBRATED"}
    assert {row.route for row in machine[::2]} == {"machine"}
    assert people[1::2] == machine[1::2]  # those of a task with a calibration
    assert [replace(row, route="") for row in people] == [replace(row, route="") for row in machine]
    with pytest.raises(EngineError, match="uncalibrated is 'nobody', not 'human' or 'machine'"):
        Engine.open(decided_repository, uncalibrated="nobody")


def test_confidence_and_range_follow_from_the_probabilities_in_the_answer(decided: Engine) -> None:
    row = decided.score(["it hands out addresses to hosts"], ["t-1"])[0]
    decision = make_decision(1)
    assert decision.temperature is not None and decision.level_range is not None and row.level_range is not None
    scaled = np.array(row.probabilities) ** (1 / decision.temperature.value)
    shares = scaled / scaled.sum()
    assert row.confidence == pytest.approx(shares[row.level], rel=1e-6)
    low, high = row.level_range
    assert low <= row.level <= high
    grown = decision.level_range.reach_of(row.level)
    assert shares[low : high + 1].sum() > grown
    assert high == low or shares[low : high + 1].sum() - min(shares[low], shares[high]) <= grown
