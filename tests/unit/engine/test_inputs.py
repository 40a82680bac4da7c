"""What the model sees: inputs that are refused by name, and what is filled in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from making import make_adapter
from scoremux_engine.errors import PackageError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.inputs import Rendered
from scoremux_engine.model.tokens import Tokenizer
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.packages.task import Task

FIELDS = {"id": "bio-7", "levels": [0, 1], "language": "en", "question": "Why {response}?", "reference": "Because {x}."}


def make_task(given: Any, **fields: Any) -> Task:
    return Task.parse(json.dumps({**FIELDS, **fields, "input": given}).encode(), Path("task.json"))


def test_a_response_alone_is_what_the_model_sees_unless_the_task_says_more() -> None:
    assert make_task(None).render("{question}") == "{question}"


@pytest.mark.parametrize(
    ("given", "texts", "side"),
    [
        ({"first": "{question}", "second": "{response}"}, ("Why {response}?", "R"), 1),
        ({"first": "A: {response}", "second": "{reference}{reference}"}, ("A: R", "Because {x}.Because {x}."), 0),
        ({"template": "Q: {question}\nA: {response}"}, ("Q: Why {response}?\nA: R",), 0),
        ({"template": "{id} {language} {response} end"}, ("bio-7 en R end",), 0),
        ({"template": '{{question}} {{x}} {} {"a": {1}} { question } } {-{{{response}'}, None, 0),
    ],
    ids=str,
)  # fmt: skip
def test_fields_are_filled_in_once_and_other_braces_are_text(given: Any, texts: Any, side: int) -> None:
    texts = texts or ('{question} {x} {} {"a": {1}} { question } } {-{{R',)
    for response in ("R", "{question} {response} {{id}} \0 [SEP]", ""):
        rendered = make_task(given).render(response)
        expected = tuple(text.replace("R", response, 1) if n == side else text for n, text in enumerate(texts))
        assert rendered == Rendered(expected, side, texts[side].index("R") + len(response))


def test_an_input_that_leaves_no_room_for_a_response_is_refused(backbone: Backbone, tmp_path: Path) -> None:
    given = {"question": "the router", "input": {"template": "{question} {response} ?"}}
    folder = make_adapter(tmp_path / "t", backbone.spec, "t", task_json=given)
    with pytest.raises(PackageError, match=r"task\.json: input: the text .* has 5 of the 64 tokens .*; leave 64 to"):
        TaskPackage.read(folder, backbone)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "it is either a pair, `first` and `second`, or a `template`"),
        ({"first": "{response}"}, "it is either a pair"),
        ({"first": "{question}", "second": "{response}", "template": "{response}"}, "it is either a pair"),
        ({"template": "{question}"}, r"it must name {response} exactly once"),
        ({"template": "{{response}}"}, r"it must name {response} exactly once"),
        ({"template": "{response} {response}"}, r"it must name {response} exactly once"),
        ({"first": "{response}", "second": "{response}"}, r"it must name {response} exactly once"),
        ({"template": "{response} {rubric}"}, "it names {rubric}, and the task has no rubric"),
        ({"template": "{response} {levels}"}, r"it names {levels}; there are {id}, .*; write {{levels}} for the text"),
        ({"template": "{response}", "more": ""}, "Extra inputs are not permitted"),
        ({"template": 3}, "should be a valid string"),
        ("{response}", "should be a valid dictionary"),
    ],
    ids=str,
)
def test_an_input_that_cannot_be_meant_is_refused_by_name(given: Any, sentence: str) -> None:
    with pytest.raises(PackageError, match=rf"^task\.json: input.*{sentence}"):
        make_task(given)


class Counting:
    """A tokenizer of the library that notes what it is given."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self.given, self.most = tokenizer, [], 0  # type: ignore[var-annotated]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode_batch(self, inputs: list[Any]) -> Any:
        self.given += inputs
        return self._tokenizer.encode_batch(inputs)

    def encode_batch_fast(self, inputs: list[Any]) -> Any:
        self.given += inputs
        self.most = max(self.most, sum(map(len, inputs)))
        return self._tokenizer.encode_batch_fast(inputs)


def test_one_text_for_many_tasks_is_tokenised_once_for_each_different_input(backbone: Backbone) -> None:
    counting = Counting(tokenizers.Tokenizer.from_file(str(backbone.folder / "tokenizer.json")))
    pair, template = {"first": "{question}", "second": "{response}"}, {"template": "{question} {response}"}
    tasks = [make_task(given, id=f"t-{n}") for n, given in enumerate((None, None, pair, pair, template, None))]
    rows = [task.render(text) for text in ("the router", "a host") for task in tasks]
    tokens = Tokenizer(counting, 64).encode(rows)
    assert len(counting.given) == 2 * 3
    assert tokens == [backbone.tokenizer.encode([row])[0] for row in rows]


def test_a_large_request_is_tokenised_in_slices_since_other_texts_wait_for_each(backbone: Backbone) -> None:
    counting = Counting(tokenizers.Tokenizer.from_file(str(backbone.folder / "tokenizer.json")))
    texts = [f"{number} the router" * (1 + number % 150) for number in range(512)]
    tokens = Tokenizer(counting, 64).encode(texts)
    assert counting.given.count(texts[7]) == 1 and counting.most < 40_000 < sum(map(len, texts))
    assert tokens == [backbone.tokenizer.encode([text])[0] for text in texts]
