"""What the model sees: inputs, buckets, size classes, and tables of adapters."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from making import make_adapter
from scoremux_engine.errors import BackboneError, PackageError
from scoremux_engine.model.backbone import Backbone, BackboneSpec, HeadLinear
from scoremux_engine.model.buckets import Buckets, SizeClass
from scoremux_engine.model.inputs import Rendered
from scoremux_engine.model.tables import Tables, size_class
from scoremux_engine.model.tables import stack as stack_tables
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
        start = texts[side].index("R")
        assert rendered == Rendered(expected, side, start + len(response), start)


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
        ({"template": "{response} {rubric}"}, "it names {rubric}"),
        ({"template": "{response} {levels}"}, r"it names {levels}; there are {id}, .*; write {{levels}} for the text"),
        ({"template": "{response}", "more": ""}, "more: unknown key"),
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


def test_texts_are_tokenised_once_for_each_input_and_large_requests_in_slices(backbone: Backbone) -> None:
    counting = Counting(tokenizers.Tokenizer.from_file(str(backbone.folder / "tokenizer.json")))
    pair, template = {"first": "{question}", "second": "{response}"}, {"template": "{question} {response}"}
    tasks = [make_task(given, id=f"t-{n}") for n, given in enumerate((None, None, pair, pair, template, None))]
    rows = [task.render(text) for text in ("the router", "a host") for task in tasks]
    tokens = Tokenizer(counting, 64).encode(rows)
    assert len(counting.given) == 2 * 3
    assert tokens == [backbone.tokenizer.encode([row])[0] for row in rows]
    counting = Counting(tokenizers.Tokenizer.from_file(str(backbone.folder / "tokenizer.json")))
    texts = [f"{number} the router" * (1 + number % 150) for number in range(512)]
    tokens = Tokenizer(counting, 64).encode(texts)
    assert counting.given.count(texts[7]) == 1 and counting.most < 40_000 < sum(map(len, texts))
    assert tokens == [backbone.tokenizer.encode([text])[0] for text in texts]


MAXIMA = [1, 7, 8, 9, 64, 100, 128, 512, 514, 576, 577, 8192]


@pytest.mark.parametrize("max_tokens", MAXIMA)
def test_every_length_gets_the_smallest_rung_that_holds_it_with_little_padding(max_tokens: int) -> None:
    buckets = Buckets(max_tokens)
    assert list(buckets.lengths) == sorted(set(buckets.lengths))
    assert buckets.lengths[-1] == max_tokens
    for length in range(1, max_tokens + 1):
        assert buckets.of(length) == min(rung for rung in buckets.lengths if rung >= length)
        assert buckets.of(length) - length < max(8, length / 4)


@pytest.mark.parametrize("max_tokens", [0, -1])
def test_a_backbone_without_tokens_is_refused(max_tokens: int) -> None:
    with pytest.raises(BackboneError, match=f"max_tokens is {max_tokens}"):
        Buckets(max_tokens)


SIZE = SizeClass(rank=16, levels=8)


def stack(packages: Sequence[TaskPackage], backbone: BackboneSpec) -> Tables:
    return stack_tables([package.tables for package in packages], backbone, SIZE)


@pytest.fixture
def small(bare: Backbone, tmp_path: Path) -> TaskPackage:
    """Rank 2, 3 levels."""
    return TaskPackage.read(make_adapter(tmp_path / "small", bare.spec, "small", rank=2, levels=3, seed=1), bare)


@pytest.fixture
def large(bare: Backbone, tmp_path: Path) -> TaskPackage:
    """Rank 4, 5 levels."""
    return TaskPackage.read(make_adapter(tmp_path / "large", bare.spec, "large", rank=4, levels=5, seed=2), bare)


@pytest.mark.parametrize(
    ("rank", "levels", "size"),
    [
        (1, 2, (8, 8)),
        (9, 8, (16, 8)),
        (16, 8, (16, 8)),
        (17, 8, (64, 8)),
        (64, 9, (64, 32)),
        (65, 40, (256, 128)),
        (300, 8, (1024, 8)),
    ],
)
def test_a_size_class_is_the_smallest_that_holds_an_adapter(rank: int, levels: int, size: tuple[int, int]) -> None:
    tables = {"A.x": np.zeros((4, rank)), "B.x": np.zeros((rank, 99)), "A.y": np.zeros((4, 1))}
    assert size_class(tables, levels) == SizeClass(*size)


def test_an_inner_linear_of_the_head_keeps_its_own_width(bare: Backbone, tmp_path: Path) -> None:
    head = (
        HeadLinear(name="classifier.dense", d_in=8, d_out=6),
        HeadLinear(name="classifier.out_proj", d_in=6, d_out=None),
    )
    deep = Backbone(bare.folder, bare.spec.model_copy(update={"head": head}))
    packages = [TaskPackage.read(make_adapter(tmp_path / str(n), deep.spec, f"t-{n}", levels=n), deep) for n in (2, 7)]
    arrays = stack(packages, deep.spec).arrays
    assert arrays["weight.classifier.dense"].shape == (2, 8, 6)
    assert arrays["weight.classifier.out_proj"].shape == (2, 6, 8)


def test_plain_adapter_gets_neutral_tables_of_variants(bare: Backbone, small: TaskPackage, large: TaskPackage) -> None:
    sites = tuple(site.model_copy(update={"dora": True, "bias": True}) for site in bare.spec.sites)
    for packages in ([small], [small, large]):
        arrays = stack(packages, bare.spec.model_copy(update={"sites": sites})).arrays
        for site in sites:
            assert arrays[f"M.{site.name}"].tolist() == [[1.0] * 8] * len(packages)
            assert arrays[f"bias.{site.name}"].tolist() == [[0.0] * 8] * len(packages)
