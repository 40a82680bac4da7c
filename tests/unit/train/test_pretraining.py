"""`scoremux pretrain`: the same weights however it is run, and a folder that training and export know apart."""

from __future__ import annotations

import json
import multiprocessing
import random
import resource
from pathlib import Path

import pytest
import torch
import transformers

from families import DECODERS, FAMILIES, each_family, make_family
from interrupted_training import adapters, prepare, run_in_child, run_with_kills, write_labelled
from killed_commands import kill_at
from making import WORDS, make_encoder
from scoremux_engine.packages.adapter_folders import Adapter
from scoremux_export.errors import ModelError
from scoremux_export.opening.base import refuse_other_base, weights_digest
from scoremux_export.opening.classifier import Classifier
from scoremux_files.errors import InputError
from scoremux_train.commands import train
from scoremux_train.errors import TrainError
from scoremux_train.pretraining.commands import pretrain
from scoremux_train.pretraining.masked_model import Vocabulary, mask
from scoremux_train.pretraining.pretrain_run import DEFAULT, pretrain_backbone, read_texts
from scoremux_train.training.batches import Example
from scoremux_train.training.checkpoint import Checkpoint, TrainingState

SECRET = "my grandmother is the router"


def write(path: Path, seed: int = 1, rows: int = 60) -> Path:
    """Write responses without labels; the second half says again what the first says."""
    draw = random.Random(seed)
    texts = [SECRET, *(" ".join(draw.choices(WORDS, k=draw.randint(2, 12))) for _ in range(rows // 2)), " "]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*texts, *reversed(texts)]))
    return path


def run(
    folder: Path, out: str, cores: int = 1, rows: str = "rows.jsonl", moment: tuple[int, float] | None = None
) -> dict[str, bytes]:
    """Pretrain in this process, which is killed at a moment as of `kill_at`; return what was written, by name."""
    if moment is not None:
        kill_at(folder, *moment)
    torch.set_num_threads(1)
    recipe, texts = (
        DEFAULT.model_copy(update={"epochs": 3, "batch": 8, "lr": 1e-3}),
        read_texts([folder / rows], "text"),
    )
    model, made = str(folder / "model"), folder / out
    pretrain_backbone(model, texts, recipe, made, lambda *_: None, cores=cores, checkpoint_s=0.0)
    return content(made)


def content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_encoder(tmp_path / "model")
    write(tmp_path / "rows.jsonl")
    return tmp_path


def test_weights_are_the_same_with_any_cores_and_order_of_rows_and_after_kills(folder: Path) -> None:
    lines = (folder / "rows.jsonl").read_text().splitlines(keepends=True)
    (folder / "turned.jsonl").write_text("".join(reversed(lines)))
    # In a process of its own each: threads of torch do not survive a fork.
    fork, draw, hit = multiprocessing.get_context("fork"), random.Random(4), 0
    for out, cores, rows in (("other", 2, "turned.jsonl"), ("whole", 1, "rows.jsonl")):
        child = fork.Process(target=run, args=(folder, out, cores, rows))
        child.start()
        child.join()
        assert child.exitcode == 0
    whole = content(folder / "whole")
    assert content(folder / "other") == whole
    for turn in range(6):
        moment = (draw.randint(12, 30), turn % 2 * draw.uniform(0, 0.02)) if turn < 5 else None
        child = fork.Process(target=run, args=(folder, "killed"), kwargs={"moment": moment})
        child.start()
        child.join()
        assert child.exitcode in (0, -9)
        hit += child.exitcode == -9
        if child.exitcode == 0:
            break
    assert hit
    assert content(folder / "killed") == whole
    assert not list(folder.glob(".*"))
    with pytest.raises(TrainError, match="whole exists: remove it, or give another --out"):
        run(folder, "whole")


def test_the_folder_is_a_backbone_of_its_own_and_says_where_it_comes_from(folder: Path) -> None:
    files = run(folder, "model2")
    before, after = (Classifier.open(str(folder / name)) for name in ("model", "model2"))
    assert after.random == before.random
    assert (after.max_tokens, after.pad_id) == (before.max_tokens, before.pad_id)
    text = "It hands out addresses."
    assert after.tokenizer(text).input_ids == before.tokenizer(text).input_ids
    changed = [
        name
        for (name, a), (_, b) in zip(before.model.named_parameters(), after.model.named_parameters(), strict=True)
        if not torch.equal(a, b)
    ]
    assert "bert.encoder.layer.0.attention.self.query.weight" in changed
    assert not [name for name in changed if "pooler" in name]
    card = files["README.md"].decode()
    assert f"base_model_sha256: {weights_digest(str(folder / 'model'))}" in card
    assert "31 different responses" in card
    assert not [name for name, data in files.items() if SECRET.encode() in data]
    pretrain([folder / "rows.jsonl"], str(folder / "model"), folder / "again", epochs=2)
    assert content(folder / "again") != files


def test_adapters_of_the_first_backbone_are_not_taken_for_the_new_one(folder: Path) -> None:
    run(folder, "new/model")  # of the same name
    write_labelled(folder / "labelled.jsonl", rows=24, tasks=("t-a",))
    (folder / "train.toml").write_text("folds = 0\n[recipe]\nepochs = 1\n")
    train([folder / "labelled.jsonl"], str(folder / "new/model"), folder / "out", config=folder / "train.toml")
    adapter = Adapter.read(folder / "out" / "t-a")
    refuse_other_base([adapter], str(folder / "new/model"), same_weights=False)
    with pytest.raises(ModelError, match="was trained on another model"):
        refuse_other_base([adapter], str(folder / "model"), same_weights=True)


@pytest.mark.parametrize("family", each_family(name for name in FAMILIES if name not in DECODERS))
def test_encoders_of_all_families_are_pretrained(family: str, tmp_path: Path) -> None:
    make_family(family, tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    write(tmp_path / "rows.jsonl")
    with pytest.raises(TrainError, match="no mask token"):
        run(tmp_path, "model2")
    tokenizer.mask_token = "[MASK]"
    tokenizer.save_pretrained(tmp_path / "model")
    run(tmp_path, "model2")
    before, after = (Classifier.open(str(tmp_path / name)) for name in ("model", "model2"))
    assert after.random == before.random
    pairs = zip(before.model.parameters(), after.model.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("family", ["llama", "modernbert-decoder"])
def test_decoders_are_refused_by_name(family: str, tmp_path: Path) -> None:
    make_family(family, tmp_path / "model")
    write(tmp_path / "rows.jsonl")
    with pytest.raises(TrainError, match=r"ForSequenceClassification, which is not trained on masked tokens: decoders"):
        run(tmp_path, "model2")


def test_null_and_blank_texts_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": null}\n{"text": " "}\n{"text": "an answer"}\n')
    assert list(read_texts([tmp_path / "rows.jsonl"], "text")) == ["an answer"]


def test_masks_are_of_the_shares_that_the_recipe_says() -> None:
    vocabulary, tokens = Vocabulary(1000, 4, {1, 2}), [1, *range(10, 90), 2]
    masks, hidden, kept = 0, 0, 0
    for key in range(200):
        masked = mask(Example(key, 0, tokens), 0, vocabulary)
        assert masked.hidden == [tokens[place] for place in masked.places]
        assert not {0, 81} & set(masked.places)
        hidden += len(masked.places)
        masks += sum(masked.tokens[place] == 4 for place in masked.places)
        kept += sum(masked.tokens[place] == tokens[place] for place in masked.places)
    assert abs(hidden / (200 * 80) - 0.15) < 0.01
    assert abs(masks / hidden - 0.8) < 0.03
    assert abs(kept / hidden - 0.1) < 0.03
    text = Example(1, 0, tokens)
    assert mask(text, 0, vocabulary) == mask(text, 0, vocabulary) != mask(text, 1, vocabulary)
    assert mask(Example(1, 0, [1, 7, 2]), 0, vocabulary).places == [1]


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.nightly)])
def test_a_killed_run_resumes_to_the_same_adapters(tmp_path: Path, kills: int) -> None:
    folder = prepare(tmp_path)
    run_in_child(folder, tmp_path / "whole")
    assert run_with_kills(folder, tmp_path / "killed", kills=kills, seed=1, operations=30)
    assert adapters(tmp_path / "killed") == adapters(tmp_path / "whole")


def test_a_checkpoint_of_another_recipe_is_not_used(tmp_path: Path) -> None:
    folder = prepare(tmp_path)
    plan = (folder / "train.toml").read_text()
    (folder / "train.toml").write_text(plan.replace("rank = 4", "rank = 2"))
    assert run_with_kills(folder, tmp_path / "out", kills=1, seed=2, operations=30) == 1
    (folder / "train.toml").write_text(plan)
    for out in ("out", "whole"):
        run_in_child(folder, tmp_path / out)
    assert adapters(tmp_path / "out") == adapters(tmp_path / "whole")


def test_a_full_disk_is_said_and_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    checkpoint, state = Checkpoint(tmp_path, "tasks", "one", 0), TrainingState.begin(torch.ones(4, 5000))
    checkpoint.save(state)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, limit[1]))
    try:
        state.step = 1
        with pytest.raises(InputError, match=r"tasks\.safetensors cannot be written: "):
            checkpoint.save(state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    kept = checkpoint.load()
    assert kept is not None
    assert kept.step == 0
    assert [path.name for path in tmp_path.iterdir()] == ["tasks.safetensors"]
