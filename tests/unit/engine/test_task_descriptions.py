"""`task.json`, and adapters without one: what is made of them, and what is refused by name."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from making import make_adapter
from scoremux_engine.errors import PackageError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.packages.package_files import PackageFiles
from scoremux_engine.packages.task import Task
from scoremux_engine.packages.task_descriptions import describe
from scoremux_engine.store.store import Store


def make_bare(folder: Path, backbone: Backbone, levels: int = 3, **config: Any) -> Path:
    """Return an adapter as PEFT saves it, without `task.json`; config: of a `config.json` beside it."""
    make_adapter(folder, backbone.spec, "none", levels=levels)
    (folder / "task.json").unlink()
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def described(folder: Path, backbone: Backbone) -> tuple[Task, str]:
    (adapter,) = describe([folder], backbone)
    return TaskPackage.check(adapter.files, backbone).task, adapter.remark


WORDS, FALLING = {"0": "wrong", "1": "part", "2": "right"}, {"0": "2", "1": "1", "2": "0"}


@pytest.mark.parametrize(
    ("config", "levels", "source"),
    [
        ({}, (0, 1, 2), "one for each output of the head"),
        ({"id2label": {"0": "0", "1": "0.5", "2": "1"}}, (0, 0.5, 1), "id2label in config.json"),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}}, (0, 1, 2), "one for each output of the head"),
        ({"id2label": {"0": "1", "1": "2"}}, (0, 1, 2), "one for each output of the head"),
        ({"id2label": ["0", "1", "2"]}, (0, 1, 2), "one for each output of the head"),
    ],
)
def test_no_task_json(bare: Backbone, tmp_path: Path, config: Any, levels: tuple[float, ...], source: str) -> None:
    task, remark = described(make_bare(tmp_path / "bio-7", bare, **config), bare)
    assert (task.id, task.levels) == ("bio-7", levels)
    assert remark == f"id: the folder's name; levels {' '.join(f'{n:g}' for n in levels)}: {source}"


def test_generated_description_is_part_of_the_version(bare: Backbone, tmp_path: Path) -> None:
    folder, store = make_bare(tmp_path / "bio-7", bare), Store(tmp_path / "store")
    (first,) = store.add([folder], bare)
    (again,) = store.add([folder], bare)
    assert first.after == again.after and not (folder / "task.json").exists()
    assert PackageFiles(store.package_folder(str(first.after))).task.levels == (0, 1, 2)
    assert store.read_package(str(first.after), bare).task.id == "bio-7"


@pytest.mark.parametrize(
    ("name", "levels", "config", "described_before", "why"),
    [
        ("a b", 3, {}, False, "its name cannot be a task's id"),
        ("t", 1, {}, False, "one output"),
        ("t", 3, {"id2label": FALLING}, False, r"config\.json: .*the points 2 1 0; they must ascend"),
        ("t", 3, {"id2label": FALLING}, True, r"config\.json: .*the points 2 1 0; they must ascend"),
        ("t", 3, {"id2label": {"0": "1", "1": "1.0", "2": "2"}}, True, "the points 1 1.0 2; they must ascend"),
        ("t", 3, {"id2label": WORDS}, False, r"config\.json: .*the head wrong, part, right, and not their"),
        ("t", 3, {"problem_type": "multi_label_classification"}, True, "_classification', and with 3 outputs"),
        ("t", 3, {"problem_type": "regression"}, False, "problem_type is 'regression', and with 3 outputs only single"),
        ("t", 3, {"id2label": WORDS, "problem_type": "single_label_classification"}, True, ""),
    ],
)  # fmt: skip
def test_adapter_whose_outputs_are_no_ascending_levels_is_refused(
    bare: Backbone, tmp_path: Path, name: str, levels: int, config: Any, described_before: bool, why: str
) -> None:
    folder = make_bare(tmp_path / name, bare, levels, **config)
    if described_before:
        (folder / "task.json").write_text('{"id": "t", "levels": [0, 1, 2]}')
    with pytest.raises(PackageError, match=why) if why else nullcontext():
        assert described(folder, bare)[0].levels == (0, 1, 2)


def test_one_output_that_is_a_logit_is_refused(bare: Backbone, tmp_path: Path) -> None:
    folder = make_bare(tmp_path / "bio-7", bare, levels=1, problem_type="regression")
    (folder / "task.json").write_text('{"id": "bio-7", "levels": [0, 1]}')
    assert described(folder, bare)[0].levels == (0, 1)
    (folder / "config.json").write_text('{"problem_type": "multi_label_classification"}')
    with pytest.raises(PackageError, match=r"with 1 outputs only regression gives the levels"):
        described(folder, bare)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"normalizer": None},
            r'tokenizer\.json makes other tokens of "The Ice floats: .*" than the backbone\'s tokenizer; export',
        ),
        ({"pre_tokenizer": {"type": "WhitespaceSplit"}}, r'tokenizer\.json makes other tokens of "'),
        ({"post_processor": None}, r'tokenizer\.json makes other tokens of "'),
        ("H₂O", r"tokenizer\.json makes other tokens of 'H₂O' than"),
        ("left", r"tokenizer_config\.json: truncation_side is left"),
    ],
    ids=["case", "splitting", "special tokens", "added token", "truncation"],
)
def test_adapter_of_other_tokens_is_refused(backbone: Backbone, tmp_path: Path, change: Any, why: str) -> None:
    folder = make_bare(tmp_path / "bio-7", backbone)
    tokenizer = Tokenizer.from_file(str(backbone.folder / "tokenizer.json"))
    # What training leaves in the file of the same tokenizer.
    tokenizer.enable_truncation(32)
    tokenizer.enable_padding()
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"truncation_side": "right"}')
    assert described(folder, backbone)[0].id == "bio-7"
    if change == "left":
        (folder / "tokenizer_config.json").write_text('{"truncation_side": "left"}')
    elif isinstance(change, str):
        tokenizer.add_tokens([change])
        tokenizer.save(str(folder / "tokenizer.json"))
    else:
        (folder / "tokenizer.json").write_text(json.dumps({**json.loads(tokenizer.to_str()), **change}))
    with pytest.raises(PackageError, match=why):
        describe([folder], backbone)


def test_description_is_read(tmp_path: Path) -> None:
    task = read(tmp_path, GOOD)
    assert (task.id, task.levels, task.question, task.language) == ("en-6.3-ipp", (0.0, 0.25, 1.0), "Warum?", "de")
    task = read(tmp_path, {"id": "t", "levels": [-1, -0.5, 0]})
    assert (task.levels, task.question, task.language) == ((-1.0, -0.5, 0.0), "", "")


GOOD = {"id": "en-6.3-ipp", "levels": [0, 0.25, 1], "question": "Warum?", "language": "de"}


def read(folder: Path, content: Any) -> Task:
    """Write `task.json`, as bytes or as JSON, and read it."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / "task.json").write_bytes(data)
    return PackageFiles(folder).task


NAN, INFINITY = float("nan"), float("inf")
WRONG_IDS = ("", "-a", ".a", "a b", "a@b", "a/b", "a\n", "ä", "x" * 129, "../a", None, 7, ["a"])
WRONG_LEVELS = ([], [1], [1, 0], [0, 1, 1], [0, 1e-99], [0, NAN], [0, INFINITY], [-INFINITY, 0], ["low", "high"])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        *(({**GOOD, "id": name}, "") for name in ("a", "7", "A.b_c-d", "x" * 128)),
        *(({**GOOD, "id": name}, "id: ") for name in WRONG_IDS),
        *(({**GOOD, "levels": levels}, r"levels(\.\d+)?: ") for levels in WRONG_LEVELS),
        *(({**GOOD, "levels": levels}, r"levels(\.\d+)?: ") for levels in (list(range(1001)), {"0": 1}, 3, None)),
        ({"levels": [0, 1]}, "id: Field required"),
        ({"id": "t"}, "file: give either `levels` or `traits`"),
        ({**GOOD, "lvels": [0, 1]}, "lvels: "),
        ({**GOOD, "id": "a b", "extra": 1}, "id: .*; extra: "),
        *((data, "it is not (JSON|a JSON object)$") for data in (b"", b"{", b"[]", b"null", b'"text"', b"{'id': 1}")),
        (b'{"id": "t", "levels": [0, 1], "question": "\xe4"}', "it is not JSON$"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_malformed_description_is_refused_by_key(tmp_path: Path, content: Any, why: str) -> None:
    with pytest.raises(PackageError, match=rf"task\.json: {why}") if why else nullcontext():
        assert read(tmp_path, content).id == content["id"]
