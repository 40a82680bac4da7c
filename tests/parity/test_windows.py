"""Texts that are longer than their task's windows: the mean of PEFT's logits, and bits in any company."""

import random
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from computed import computed_runners, each_runner
from making import WORDS, Once, make_adapter
from mixed_store import Kind, make_store, open_with_peft
from scoremux_client.contract import Status
from scoremux_engine import Engine
from scoremux_engine.bank.residents import Version
from scoremux_engine.errors import PackageError
from scoremux_engine.model.windows import Windows, weighted_mean
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.scoring.in_flight import row_digest
from scoremux_engine.scoring.row_plan import RowPlan, RowTexts

WINDOWS = {"tokens": 96, "overlap": 12, "most": 6}
PAIR = {"first": "{question}", "second": "{response}", "windows": WINDOWS}
TEMPLATE = {"template": "the {question} is {response} .", "windows": WINDOWS}
QUESTION = "why is the packet lost ?"
KINDS = tuple(
    Kind(rank, levels, task={"question": QUESTION, **({"input": given} if given else {})})
    for rank, levels, given in (
        (4, 3, {"windows": WINDOWS}),
        (8, 5, PAIR),
        (16, 9, TEMPLATE),
        (40, 4, {"windows": WINDOWS}),
        (8, 3, None),
    )
)
TASKS = [f"t-{number}" for number in range(len(KINDS))]


@pytest.fixture(scope="module")
def repository(once: Once, open_repository: Path) -> Path:
    return once("windows", partial(make_store, open_repository, kinds=KINDS))


@pytest.fixture(scope="module")
def engine(repository: Path) -> Engine:
    return Engine.open(repository, runner=computed_runners()["onnxruntime float32"])


def essay(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(WORDS, k=words))


def windows_of(tokenizer: Any, kind: Kind, text: str) -> tuple[list[dict[str, Any]], list[int], bool]:
    """Return the oracle's windows, how many tokens each adds, and whether the text's end is cut."""
    question, given = QUESTION, kind.task.get("input", {})
    response = tokenizer(text, add_special_tokens=False)["input_ids"]
    around, pair = [0, 0], None
    if "template" in given:
        around = [tokenizer(part, add_special_tokens=False)["input_ids"] for part in (f"the {question} is", ".")]
    elif "first" in given:
        pair = tokenizer(question, add_special_tokens=False)["input_ids"]
    before, after = around if "template" in given else ([], [])
    room = WINDOWS["tokens"] - (2 if pair is None else 3 + len(pair)) - len(before) - len(after)
    limit = WINDOWS["most"] * (room - WINDOWS["overlap"]) + WINDOWS["overlap"]
    kept, parts = response[:limit], [(0, len(response))]
    if len(response) > room:
        new = len(kept) - WINDOWS["overlap"]
        count = next(n for n in range(2, 99) if n * (room - WINDOWS["overlap"]) >= new)
        parts = [(k * new // count, (k + 1) * new // count + WINDOWS["overlap"]) for k in range(count)]
    built = []
    for start, stop in parts:
        ids = [*before, *kept[start:stop], *after]
        first = [tokenizer.cls_token_id, *(pair or ids), tokenizer.sep_token_id]
        second = [*ids, tokenizer.sep_token_id] if pair else []
        types = [0] * len(first) + [1] * len(second)
        built.append({"input_ids": torch.tensor([first + second]), "token_type_ids": torch.tensor([types])})
    adds = [stop - seen for seen, (_, stop) in zip([0, *(stop for _, stop in parts)], parts, strict=False)]
    return built, adds, len(kept) < len(response)


def test_logits_are_the_mean_of_pefts_over_the_same_windows(repository: Path, engine: Engine) -> None:
    tokenizer = transformers.BertTokenizer.from_pretrained(repository / "source")
    models = {
        task: open_with_peft(str(repository / "source"), repository / "adapters" / task, kind.levels)
        for task, kind in zip(TASKS, KINDS, strict=True)
    }
    draw = random.Random(5)
    texts = [essay(draw, words) for words in (0, 3, 60, 95, 96, 110, 150, 300, 450, 600, *draw.sample(range(500), 14))]
    scored = engine.score([text for text in texts for _ in TASKS[:4]], TASKS[:4] * len(texts))
    logits = engine.logits([text for text in texts for _ in TASKS[:4]], TASKS[:4] * len(texts))
    several = cut = 0
    for row, (found, text) in enumerate(zip(logits, (text for text in texts for _ in TASKS[:4]), strict=True)):
        task, kind = TASKS[row % 4], KINDS[row % 4]
        windows, adds, truncated = windows_of(tokenizer, kind, text)
        with torch.inference_mode():
            each = [models[task](**one).logits[0].double().numpy() for one in windows]
        expected = np.average(each, axis=0, weights=adds if sum(adds) else None)
        assert np.abs(found[: kind.levels] - expected).max() <= 1e-4
        assert scored[row].level == expected.argmax() and scored[row].truncated == truncated
        several, cut = several + (len(windows) > 1), cut + truncated
    assert several > 40 and 4 <= cut < 20


@pytest.mark.parametrize("name", each_runner())
def test_bits_of_long_texts_are_the_same_in_any_company(repository: Path, name: str) -> None:
    draw = random.Random(6)
    choice = computed_runners()[name]
    rows = [(essay(draw, draw.choice((4, 20, 90, 200, 400, 600))), draw.choice(TASKS)) for _ in range(24)]
    answers = []
    for streams in (1, 2):
        engine = Engine.open(repository, runner=replace(choice, streams=streams))
        answers += [engine.logits([text], [task])[0].tobytes() for text, task in rows] if not answers else []
        for _ in range(3):
            mix = draw.choices(range(len(rows)), k=draw.randint(2, 30))
            found = engine.logits([rows[n][0] for n in mix], [rows[n][1] for n in mix])
            assert [row.tobytes() for row in found] == [answers[n] for n in mix]


def test_vectors_are_the_mean_too_and_a_window_that_kills_stops_its_row_alone(engine: Engine) -> None:
    text, short = essay(random.Random(7), 300), "the router"
    with engine.bank.checkout() as versions:
        version = versions.find("t-0")
        assert isinstance(version, Version)
        (tokens,) = engine.backbone.tokenizer.encode([version.task.render(text)])
        deadly = row_digest(version.digest, tokens.windows[2].ids)
        rows = RowTexts([text, short], ["t-0", "t-0"])
        (plan,) = RowPlan.admit([rows], versions, engine.backbone, deadly={deadly})
        assert plan.status == [Status.SERVER_DIED, Status.OK] and len(plan.computed) == 1
        (plan,) = RowPlan.admit([rows], versions, engine.backbone)
        assert len(plan.computed) == 1 + len(tokens.windows) == 5
    words = engine.backbone.tokenizer
    parts = [" ".join(text.split()[start:stop]) for start, stop in ((0, 84), (72, 156), (144, 228), (216, 300))]
    assert [words.encode([part])[0].ids for part in parts] == [window.ids for window in tokens.windows]
    whole, *each = engine.embed([text, *parts], ["t-0"] * 5)
    assert np.abs(whole - np.average(each, axis=0, weights=[84, 72, 72, 72])).max() < 1e-6


def test_spans_cover_a_text_evenly() -> None:
    draw = random.Random(8)
    for _ in range(500):
        windows = Windows(tokens=100, overlap=draw.randint(0, 40), most=8)
        room = draw.randint(2 * windows.overlap + 1, 100)
        tokens = draw.randint(room + 1, max(room + 1, windows.most_tokens(room)))
        spans = windows.spans(tokens, room)
        assert spans[0].start == 0 and spans[-1].stop == tokens and sum(span.adds for span in spans) == tokens
        assert all(b.start == a.stop - windows.overlap for a, b in pairwise(spans))
        lengths = [span.stop - span.start for span in spans]
        assert max(lengths) <= room and max(lengths) - min(lengths) <= 1
        assert (len(spans) - 1) * (room - windows.overlap) + windows.overlap < tokens or len(spans) == 2


def test_the_mean_is_rounded_in_the_order_of_windows() -> None:
    values = np.array([[1e8, 1.0], [-1e8, 2.0], [1.0, 4.0]], np.float32)
    assert weighted_mean(values, [1, 1, 2]).tolist() == [0.5, 2.75]


@pytest.mark.parametrize(
    ("windows", "sentence"),
    [
        ({"tokens": 65}, "windows of 65 tokens are longer than the 64 that the backbone takes"),
        ({"tokens": 60}, "has 2 of the 60 tokens that a window takes; leave 64 to the response"),
        ({"tokens": 64, "most": 0}, "greater than or equal to 1"),
        ({"tokens": 64, "stride": 3}, "stride: unknown key"),
    ],
    ids=str,
)
def test_windows_that_cannot_be_read_are_refused(backbone: Any, tmp_path: Path, windows: Any, sentence: str) -> None:
    folder = make_adapter(tmp_path / "t", backbone.spec, "t", task_json={"input": {"windows": windows}})
    with pytest.raises(PackageError, match=sentence):
        TaskPackage.read(folder, backbone)
