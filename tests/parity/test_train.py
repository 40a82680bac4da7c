"""Training many tables at once gives what PEFT gives for each alone, and what is served is what was trained."""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pyarrow.parquet as pq
import pytest
import torch
import transformers

from families import make_family
from interrupted_training import RIGHT, adapters, write_labelled
from labelled import labelled, rows_of
from making import WORDS
from mixed_store import open_with_peft
from scoremux_engine import Engine
from scoremux_engine.model.backbone import Backbone, head_inputs
from scoremux_engine.packages.adapter_folders import find_adapters
from scoremux_engine.packages.package import adapter_digest
from scoremux_engine.packages.package_files import PackageFiles
from scoremux_engine.store.store import Store
from scoremux_evidence.rows.trained_rows import TrainedVersions
from scoremux_export.errors import ModelError
from scoremux_export.opening.classifier import Classifier
from scoremux_export.opening.openable import Opening
from scoremux_export.opening.opened import OpenedModel
from scoremux_files.rows.readers import text_check
from scoremux_train.commands import train
from scoremux_train.data import read_data
from scoremux_train.recipe import Plan, Recipe
from scoremux_train.run import train as run_training
from scoremux_train.training import trainer as trainer_module
from scoremux_train.training.adapter_files import write_adapter
from scoremux_train.training.batches import Example, StepRow, TrainingSet, padded
from scoremux_train.training.checkpoint import TrainingState
from scoremux_train.training.objective import learning_rate, soft_targets
from scoremux_train.training.packed import PackedPass
from scoremux_train.training.preparation import prepare
from scoremux_train.training.shortcuts import skip_unread_tokens
from scoremux_train.training.table_layout import TableLayout
from scoremux_train.training.trainer import Trainer

SITES = "query,value"


@pytest.fixture(scope="module")
def model(open_repository: Path) -> Path:
    return open_repository / "source"


def _examples(count: int, levels: int, seed: int) -> list[Example]:
    draw = np.random.default_rng(seed)
    return [
        Example(seed * 1000 + n, int(draw.integers(levels)), draw.integers(5, 40, draw.integers(3, 30)).tolist())
        for n in range(count)
    ]


def _trainer(
    model: Path, rank: int, levels: int, sites: str = SITES, shortcuts: bool = True
) -> tuple[Trainer, Callable[..., torch.Tensor]]:
    encoder = Classifier.open(str(model))
    found, head = Opening(sites).describe(encoder.model)
    layout, own = (
        TableLayout(found, head, rank, levels),
        {one.name: encoder.model.get_submodule(one.name) for one in head},
    )
    config = encoder.model.config
    opened = OpenedModel(encoder.model, found, head, encoder.pad_id)
    return Trainer(opened, layout, encoder.pad_id, "cpu", shortcuts), lambda r, n, seed, traits=(): layout.start(
        own, config, r, n, seed, traits
    )


def _fit(model: Path, targets: list[TrainingSet], rank: int = 8, levels: int = 4, sites: str = SITES) -> torch.Tensor:
    trainer, start = _trainer(model, rank, levels, sites)
    begun = [start(t.recipe.rank, t.levels, sum(t.name.encode())) for t in targets]
    state = TrainingState.begin(torch.stack(begun))
    trainer.run(targets, state, lambda _state, _rows: None)
    return state.values


SETS = [
    TrainingSet("a/0", 3, Recipe(epochs=3, dropout=0.2), _examples(21, 3, 1)),
    TrainingSet("b/0", 2, Recipe(epochs=2, rank=4, class_weights=0.5), _examples(40, 2, 2)),
    TrainingSet("c/0", 4, Recipe(epochs=5, batch=7, spread=0.0), _examples(9, 4, 3)),
    TrainingSet("d/0", 3, Recipe(epochs=6), _examples(20, 3, 4)),
]


def test_a_task_alone_and_in_company_becomes_the_same_adapter(model: Path) -> None:
    together = _fit(model, SETS)
    for number, target in enumerate(SETS):
        alone = _fit(model, [target])[0]
        assert (together[number] - alone).abs().max() < 2e-5, target.name
    assert (together[0] - together[3]).abs().max() > 1e-2


def test_levels_of_an_item_start_in_their_order_along_one_direction(model: Path) -> None:
    trainer, start = _trainer(model, 4, 7)
    views = trainer.layout.views(start(4, 7, 9, (3, 4)))
    weight = views[head_inputs(trainer.layout.head[-1].name)[0]]
    steps = weight.diff(dim=1)[:, [0, 1, 3, 4, 5]]
    assert (steps - steps[:, :1]).abs().max() < 1e-6 < steps.abs().max()
    assert all(part.sum(1).abs().max() < 1e-6 for part in (weight[:, :3], weight[:, 3:]))
    many, few = (
        trainer.layout.views(start(4, levels, 9))[head_inputs(trainer.layout.head[-1].name)[0]] for levels in (6, 5)
    )
    assert many[:, :6].diff(n=2, dim=1).abs().max() < 1e-6 < few[:, :5].diff(n=2, dim=1).abs().max()


def test_training_is_that_of_peft_and_torch(model: Path) -> None:
    recipe = Recipe(epochs=3, dropout=0.0, rank=4, alpha=8)
    target = TrainingSet("a/0", 3, recipe, _examples(30, 3, 6))
    trainer, start = _trainer(model, 4, 3)
    begun = start(4, 3, 9)
    state = TrainingState.begin(begun[None].clone())
    trainer.run([target], state, lambda _state, _rows: None)
    oracle = _peft(model, trainer.layout, begun, recipe)
    _loop(oracle, target)
    views = trainer.layout.views(state.values[0])
    for name, tensor in peft.get_peft_model_state_dict(oracle).items():
        plain = name.removeprefix("base_model.model.")
        kind = {"lora_A.weight": "A.", "lora_B.weight": "B."}
        ours = next((views[k + plain.removesuffix("." + end)] for end, k in kind.items() if plain.endswith(end)), None)
        if ours is None:
            module, _, part = plain.rpartition(".")
            ours = views[f"{part}.{module}"]
        ours = ours.T if tensor.dim() == 2 else ours
        assert (ours - tensor).abs().max() < 1e-4, name


def _essays(count: int) -> list[Example]:
    """Return responses of 1 to 4 windows with a level of three and of two, some without one of them."""
    draw, rows = random.Random(8), _examples(count, 3, 8)
    for number, row in enumerate(rows):
        sizes = [draw.randint(2, 9) for _ in range(1 + number % 4)]
        parts = [Example(100 * number + n, 0, [draw.randint(5, 90) for _ in range(k)]) for n, k in enumerate(sizes)]
        windows = [replace(part, adds=draw.randint(1, 5)) for part in parts] if len(parts) > 1 else ()
        levels = [(row.level, number // 3 % 2), (row.level, -1), (-1, number % 2)][min(2, number % 7)]
        rows[number] = replace(row, levels=levels, windows=windows)
    return rows


def test_gradient_of_traits_and_windows(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(epochs=1, batch=30, dropout=0.0, rank=4, alpha=8)
    target = TrainingSet("a/0", 5, recipe, _essays(30), traits=(3, 2))
    layout, start = _trainer(model, 4, 5)[0].layout, _trainer(model, 4, 5)[1]
    begun = start(4, 5, 9)

    def gradient(of: TrainingSet, values: torch.Tensor) -> torch.Tensor:
        state = TrainingState.begin(values[None].clone())
        _trainer(model, 4, 5)[0].run([of], state, lambda _state, _rows: None)
        return state.first[0]

    oracle, rows = _peft(model, layout, begun, recipe, 5), target.mini_batch(0)
    losses = []
    for row in rows:
        adds = [max(1, part.adds) for part in row.parts]
        weighted = [
            w * oracle(input_ids=torch.tensor([p.tokens])).logits[0] for w, p in zip(adds, row.parts, strict=True)
        ]
        mean = torch.stack(weighted).sum(0) / sum(adds)
        for logits, level, weights in zip(mean.split([3, 2]), row.levels, target.weights, strict=True):
            if level >= 0:
                size = torch.tensor([len(logits)])
                wanted = soft_targets(torch.tensor([level]), size, torch.tensor([recipe.spread]), len(logits))[0]
                losses.append(weights[level] / 2 * -(wanted * torch.log_softmax(logits, 0)).sum())
    (torch.stack(losses).sum() / len(rows)).backward()
    trained = [p for p in oracle.parameters() if p.requires_grad]
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    views = layout.views(gradient(target, begun) * 10)  # AdamW's first moment is a tenth of the gradient
    for name, parameter in oracle.named_parameters():
        if parameter.grad is not None:
            plain = name.removeprefix("base_model.model.").replace(".default", "").replace(".modules_to_save", "")
            module, _, part = plain.rpartition(".")
            kind = {"lora_A": "A.", "lora_B": "B."}.get(module.rpartition(".")[2], "")
            ours = views[f"{kind}{module.rpartition('.')[0]}"] if kind else views[f"{part}.{module}"]
            assert ((ours.T if parameter.dim() == 2 else ours) - parameter.grad).abs().max() < 1e-5, name
    dropped = replace(target, recipe=recipe.model_copy(update={"dropout": 0.2}))
    values = begun + 0.1 * torch.randn(begun.shape, generator=torch.Generator().manual_seed(1))
    once = [gradient(of, values) for of in (target, dropped)]
    monkeypatch.setattr(trainer_module, "MICRO_TOKENS", 12)  # the windows of a text exceed a micro-batch
    for of, whole in zip((target, dropped), once, strict=True):
        assert (gradient(of, values) - whole).abs().max() < 1e-6 < whole.abs().max() / 100
    assert (once[0] - once[1]).abs().max() > 5e-6


def _peft(model: Path, layout: TableLayout, begun: torch.Tensor, recipe: Recipe, levels: int = 3) -> Any:
    base = transformers.AutoModelForSequenceClassification.from_pretrained(model, num_labels=levels)
    config = peft.LoraConfig(
        task_type="SEQ_CLS", r=recipe.rank, lora_alpha=recipe.alpha, target_modules=SITES.split(",")
    )
    made = peft.get_peft_model(base, config).eval()
    views = layout.views(begun)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            plain = name.removeprefix("base_model.model.").replace(".default", "").replace(".modules_to_save", "")
            if plain.endswith("lora_A.weight"):
                parameter.copy_(views["A." + plain.removesuffix(".lora_A.weight")].T)
            elif plain == "classifier.weight":
                parameter.copy_(views["weight.classifier"].T)
            elif plain == "classifier.bias":
                parameter.copy_(views["bias.classifier"])
    return made


def _loop(model: Any, target: TrainingSet) -> None:
    recipe, trained = target.recipe, [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-3, weight_decay=0.01)
    rarity = torch.bincount(torch.tensor([row.level for row in target.rows])).float() ** -recipe.class_weights
    rarity /= rarity[[row.level for row in target.rows]].mean()
    for step in range(target.steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * learning_rate(step, target.steps)
        rows = target.mini_batch(step)
        logits = model(**padded(rows, 0)).logits
        levels, count = torch.tensor([row.level for row in rows]), len(rows)
        wanted = soft_targets(levels, torch.full((count,), 3), torch.full((count,), recipe.spread), 3)
        optimizer.zero_grad()
        losses = torch.nn.functional.cross_entropy(logits, wanted, reduction="none")
        (rarity[levels] * losses).mean().backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()


@pytest.mark.parametrize("sites", ["re:.*layer\\.1\\..*(query|value)", "all-linear"])
def test_shortcuts_leave_gradients_as_they_are(encoder: Path, sites: str) -> None:
    quick, plain = (_first_gradients(encoder, sites, shortcuts) for shortcuts in (True, False))
    # In float64 the largest difference is 9e-19.
    assert (quick - plain).abs().max() < 1e-5 < quick.abs().max() / 1e3


def _first_gradients(model: Path, sites: str, shortcuts: bool) -> torch.Tensor:
    # Of tokens that nobody reads, no masks are drawn: with dropout, the last Linears would get others.
    rates = (0.0,) * 4 if sites == "all-linear" else (0.2, 0.0, 0.2, 0.1)
    sets = [
        TrainingSet(s.name, s.levels, Recipe(epochs=1, batch=40, dropout=rate), s.rows)
        for s, rate in zip(SETS, rates, strict=True)
    ]
    trainer, start = _trainer(model, 8, 4, sites, shortcuts)
    state = TrainingState.begin(torch.stack([start(8, s.levels, 1) for s in sets]))
    trainer.run(sets, state, lambda _state, _rows: None)
    return state.first


@pytest.mark.parametrize(
    ("family", "sites"),
    [
        pytest.param("roberta", "query,value", marks=pytest.mark.nightly),
        pytest.param("distilbert", "q_lin,v_lin", marks=pytest.mark.nightly),
        ("deberta-v2", "query_proj,value_proj"),
        ("modernbert", "Wqkv"),
        ("qwen3", r"re:.*layers\.1\..*[qv]_proj"),
        pytest.param("gemma2", "all-linear", marks=pytest.mark.nightly),
    ],
)
def test_training_reads_tables_of_every_family_as_peft_does(family: str, sites: str, tmp_path: Path) -> None:
    folder = make_family(family, tmp_path / family)
    trainer, _ = _trainer(folder, 4, 2, sites)
    recipe, rows = Recipe(rank=4, alpha=8), _examples(12, 2, 7)
    row = torch.randn(trainer.layout.width, generator=torch.Generator().manual_seed(4)) * 0.2
    training_set = TrainingSet("t", 2, recipe, rows)
    predicted = {
        step_row.example.key: p
        for step_row, p in trainer.predict([StepRow(0, training_set, example) for example in rows], row[None])
    }
    write_adapter(tmp_path / "adapter", trainer.layout, row, 2, Plan(sites=sites), recipe, {})
    oracle = open_with_peft(str(folder), tmp_path / "adapter", 2)
    for example in rows:
        with torch.inference_mode():
            expected = torch.softmax(oracle(input_ids=torch.tensor([example.tokens])).logits[0], 0).numpy()
        assert np.abs(predicted[example.key] - expected).max() < 1e-5
    assert np.std([p[0] for p in predicted.values()]) > 1e-3


def test_unread_tokens_are_left_out_only_where_no_head_reads_them(model: Path) -> None:
    bert = transformers.AutoModelForSequenceClassification.from_pretrained(model, num_labels=2).eval()
    ids = torch.arange(5, 14)[None]
    assert skip_unread_tokens(bert, PackedPass(), lambda: bert(input_ids=ids).logits)
    read = transformers.AutoModelForTokenClassification.from_pretrained(model, num_labels=2).eval()
    assert not skip_unread_tokens(read, PackedPass(), lambda: read(input_ids=ids).logits)


@pytest.fixture(scope="module")
def trained(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the command with folds and a pair as input."""
    folder = tmp_path_factory.mktemp("run")
    write_labelled(folder / "rows.jsonl")
    described = [f"{task},the {word} ?,{{question}},{{response}}\n" for task, word in RIGHT.items()]
    (folder / "tasks.csv").write_text("id,question,first,second\n" + "".join(described))
    (folder / "train.toml").write_text("folds = 3\n[recipe]\nepochs = 4\n")
    train([folder / "rows.jsonl"], str(model), folder / "out", folder / "tasks.csv", folder / "train.toml")
    return folder / "out"


def test_folders_open_in_peft_and_serve_as_trained(
    open_repository: Path, model: Path, trained: Path, tmp_path: Path
) -> None:
    store = publish(open_repository, trained, tmp_path)
    assert sorted(store.manifest().tasks) == sorted(RIGHT)
    assert all((store.package_folder(digest) / "card.md").exists() for digest in store.manifest().tasks.values())
    rows = [json.loads(line) for line in (trained.parent / "rows.jsonl").read_text().splitlines()][:40]
    on = TrainedVersions.read(store.folder, store.manifest().tasks.items())
    given = rows_of(*(labelled(row["id"], row["task"], 0, text=row["text"]) for row in rows))
    assert not on.unknown and on.find(given)[0].all()
    served = Engine.open(tmp_path).logits([row["text"] for row in rows], [row["task"] for row in rows])
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    for task in RIGHT:
        levels = 3 if task == "t-b" else 2
        oracle = open_with_peft(str(model), trained / task, levels)
        for row, logits in zip(rows, served, strict=True):
            if row["task"] == task:
                tokens = tokenizer(f"the {RIGHT[task]} ?", row["text"], return_tensors="pt")
                with torch.inference_mode():
                    expected = oracle(**tokens).logits[0].numpy()
                assert np.abs(logits[:levels] - expected).max() <= 1e-4


def publish(open_repository: Path, trained: Path, repository: Path) -> Store:
    """Make `repository` with the backbone and the adapters that were trained on it."""
    shutil.copytree(open_repository / "backbone", repository / "backbone")
    store = Store(repository / "store")
    store.add(find_adapters([trained]), Backbone.open(repository / "backbone" / "1"))
    return store


def test_item_with_traits_in_windows_is_served_as_trained(open_repository: Path, model: Path, tmp_path: Path) -> None:
    draw, lines = random.Random(5), []
    for number in range(60):
        good = number % 3
        words = [*draw.choices(WORDS[20:], k=30 + 9 * (number % 17)), *[WORDS[good]] * 20]
        cells = ["" if number == 7 else 1 + good / 2, "" if number in (8, 9) else number % 2]
        lines.append({"id": f"e{number}", "item": "essay-1", "text": " ".join(words), "G": cells[0], "S": cells[1]})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "columns.toml").write_text('task = "item"\n[traits]\ngrammar = "G"\nsyntax = "S"\n')
    (tmp_path / "train.toml").write_text("folds = 2\n[recipe]\nepochs = 4\n")
    file = tmp_path / "out/essay-1/task.json"
    file.parent.mkdir(parents=True)
    syntax = {"levels": [0, 1], "feedback": ["No.", "Yes."], "name": "S"}
    written = {"grammar": {"levels": [1, 1.5, 2]}, "syntax": syntax}
    total = {"weights": {"grammar": 2.0, "syntax": 1.0}}  # as a person left it after an earlier training
    file.write_text(json.dumps({"id": "essay-1", "traits": written, "total": total, "question": "of before"}))
    train([tmp_path / "rows.jsonl"], str(model), tmp_path / "out", None, tmp_path / "train.toml")
    described = json.loads(file.read_text())
    assert (described["traits"], described["total"], described.get("question")) == (written, total, None)
    assert described["input"]["windows"]["tokens"] == 97 and described["input"]["windows"]["most"] >= 6
    card = (tmp_path / "out/essay-1/card.md").read_text()
    assert "## essay-1.syntax" in card and "would be cut without windows" in card and "- 58 responses with" in card
    predicted = pq.read_table(tmp_path / "out/predictions.parquet").to_pylist()
    of_trait = {
        task: [row for row in predicted if row["task"] == task] for task in ("essay-1.grammar", "essay-1.syntax")
    }
    assert [len(rows) for rows in of_trait.values()] == [59, 58]
    assert {len(row["probabilities"]) for row in of_trait["essay-1.syntax"]} == {2}
    folds = [{row["id"]: row["fold"] for row in rows} for rows in of_trait.values()]
    assert all(folds[1].get(name, fold) == fold for name, fold in folds[0].items())

    publish(open_repository, tmp_path / "out", tmp_path / "repo")
    engine, texts = Engine.open(tmp_path / "repo"), [line["text"] for line in lines[:20]]
    oracle = open_with_peft(str(model), tmp_path / "out/essay-1", 5)
    task = PackageFiles(tmp_path / "out/essay-1").task
    tokens = engine.backbone.tokenizer.encode([task.render(text) for text in texts])
    assert {len(one.windows) for one in tokens} > {0, 3} and not any(one.truncated for one in tokens)
    served = engine.logits(texts, ["essay-1.syntax"] * 20)
    for logits, one in zip(served, tokens, strict=True):
        parts = one.windows or (one,)
        with torch.inference_mode():
            of_parts = [oracle(input_ids=torch.tensor([part.ids])).logits[0, 3:] * max(1, part.adds) for part in parts]
        mean = torch.stack(of_parts).sum(0) / sum(max(1, part.adds) for part in parts)
        assert np.abs(logits[:2] - mean.numpy()).max() <= 1e-4


def test_cores_and_the_order_of_rows_change_no_byte(model: Path, trained: Path, tmp_path: Path) -> None:
    lines = (trained.parent / "rows.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "rows.jsonl").write_text("".join(sorted(lines, key=lambda line: line[::-1])))
    tasks, config = trained.parent / "tasks.csv", trained.parent / "train.toml"
    train([tmp_path / "rows.jsonl"], str(model), tmp_path / "out", tasks, config, cores=3)
    assert adapters(tmp_path / "out") == adapters(trained)


def test_every_row_gets_one_prediction_out_of_its_fold_and_every_adapter_a_card(trained: Path) -> None:
    found = pq.read_table(trained / "predictions.parquet").to_pylist()
    rows = {row["id"]: row for row in map(json.loads, (trained.parent / "rows.jsonl").read_text().splitlines())}
    assert sorted(row["id"] for row in found) == sorted(rows)
    for row in found:
        assert (row["task"], row["level"]) == (rows[row["id"]]["task"], rows[row["id"]]["level"])
        assert len(row["probabilities"]) == (3 if row["task"] == "t-b" else 2)
        assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-5)
        assert row["text_check"] == text_check(rows[row["id"]]["text"])
        assert row["adapter"] == adapter_digest(PackageFiles(trained / row["task"]))
    assert {row["fold"] for row in found} == {0, 1, 2}
    text = (trained / "t-b" / "card.md").read_text()
    made_of = "40 responses", "epochs 4", "lr 0.002, spread"
    for part in (*made_of, "Known limits", "of 40 responses", "| QWK |"):
        assert part in text, part


def test_leftovers_of_earlier_runs(
    trained: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, tasks = trained.parent / "rows.jsonl", trained.parent / "tasks.csv"
    alone = tmp_path / "one.jsonl"
    alone.write_text("".join(line + "\n" for line in rows.read_text().splitlines() if '"t-a"' in line))
    shutil.copytree(trained, tmp_path / "mixed")
    (tmp_path / "train.toml").write_text("folds = 0\n[recipe]\nepochs = 1\n")
    train([alone], str(model), tmp_path / "mixed", tasks, tmp_path / "train.toml")
    assert f"are still in {tmp_path / 'mixed'}: t-b" in capsys.readouterr().out
    assert not (tmp_path / "mixed" / "predictions.parquet").exists(), "they are of other adapters"


def test_a_text_without_tokens_is_trained_as_the_padding_token_that_serving_makes_of_it(tmp_path: Path) -> None:
    make_family("llama", tmp_path / "model")
    tokenizer = tmp_path / "model" / "tokenizer.json"
    tokenizer.write_text(json.dumps({**json.loads(tokenizer.read_text()), "post_processor": None}))
    lines = write_labelled(tmp_path / "rows.jsonl", rows=24, tasks=("t-a",)).read_text().splitlines()
    rows = [json.loads(line) for line in lines] + [{"id": "empty", "task": "t-a", "text": "", "level": 0}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "train.toml").write_text("folds = 2\n[recipe]\nepochs = 1\n")
    train([tmp_path / "rows.jsonl"], str(tmp_path / "model"), tmp_path / "out", config=tmp_path / "train.toml")
    found = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pylist()
    assert np.isfinite([row["probabilities"] for row in found]).all()


class RecordedTrainer:
    """Trains with another trainer, and keeps what tables were trained on."""

    def __init__(self, trainer: Trainer) -> None:
        self.layout, self.predict, self._trainer = trainer.layout, trainer.predict, trainer
        self.rows: dict[str, set[tuple[int, ...]]] = {}

    def run(self, sets: Any, state: Any, after_step: Any) -> None:
        self.rows |= {one.name: {tuple(row.tokens[1:]) for row in one.rows} for one in sets}
        self._trainer.run(sets, state, after_step)


def test_no_table_has_seen_the_rows_that_it_predicts(model: Path, tmp_path: Path) -> None:
    data = read_data([write_labelled(tmp_path / "rows.jsonl", rows=24)], {})
    plan = Plan(folds=3, recipe=Recipe(epochs=1))
    prepared = prepare(data, list(data.tasks), plan, str(model))
    trainer = RecordedTrainer(prepared.trainer)
    run_training(replace(prepared, trainer=trainer), tmp_path, lambda *_: None)  # type: ignore[arg-type]
    held = {
        fold: {
            tuple(example.tokens[1:])
            for task in prepared.tasks
            for example, held_out_in in zip(task.examples, task.fold_of, strict=True)
            if held_out_in == fold
        }
        for fold in range(3)
    }
    assert len(trainer.rows) == 3 * (3 + 1)
    for name, rows in trainer.rows.items():
        fold = name.split("/")[1]
        assert not rows & held.get(int(fold), set()), name


def test_responses_with_one_id_are_told_apart_by_administration(tmp_path: Path, model: Path) -> None:
    rows = [json.loads(line) for line in write_labelled(tmp_path / "rows.jsonl", 24, ("t-a",)).open()]
    may = [{**row, "administration": "may"} for row in rows[:2]]
    june = [{**row, "administration": "june", "text": f"june {row['text']}"} for row in may]
    keys = []
    for number, more in enumerate(([], may + june)):
        path = tmp_path / f"{number}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows[2:] + more))
        (task,) = prepare(read_data([path], {}), ["t-a"], Plan(), str(model)).tasks
        of_rows = zip(task.rows.response_keys(), task.examples, strict=True)
        keys.append({key: example.key for key, example in of_rows})
    assert keys[0].items() < keys[1].items() and len({*keys[1].values()}) == len(rows) + 2


def test_a_backbone_whose_weights_would_differ_at_export_is_refused(model: Path, tmp_path: Path) -> None:
    data = read_data([write_labelled(tmp_path / "rows.jsonl", rows=24)], {})
    encoder = transformers.BertModel.from_pretrained(model, add_pooling_layer=False)
    encoder.save_pretrained(without_pooler := Path(shutil.copytree(model, tmp_path / "model")))
    with pytest.raises(ModelError, match=r"no weights for bert\.pooler\.dense, .* save the whole model"):
        prepare(data, list(data.tasks), Plan(), str(without_pooler))
    prepare(data, list(data.tasks), Plan(modules_to_save=["bert.pooler.dense"]), str(without_pooler))
