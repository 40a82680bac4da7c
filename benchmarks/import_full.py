"""What would be kept if fully fine-tuned models were turned into LoRA adapters of the base that they began with.

    python -m benchmarks import_full --data SAF --work FOLDER
    python -m benchmarks import_full --data SCIENTSBANK --work FOLDER --minutes 30
    python -m benchmarks import_full --data SAF --work FOLDER --freeze embeddings

One whole model is trained for each task (`full_finetuning` of `benchmarks/training.py`) and then imported: the
difference of each Linear from the base is factored by SVD at `--rank`, differences of biases become LoRA biases, and
the head is copied. Embeddings and norms are the base's, because an adapter cannot express theirs. The adapter is then
distilled: it begins as the SVD, and all of it and the head learn the whole model's probabilities of its training texts
(cross-entropy, no dropout). "Levels kept" is the share of test responses to which an import gives the level that the
whole model gives.

Two more ways say where levels are lost: Linears without factoring, with embeddings and norms of the base; and Linears
factored, with embeddings and norms of the whole model. No adapter can do either.

Tasks are taken by language in turn: the first of each, the second of each, and so on. `--minutes` begins no further
task after that time. With `--work FOLDER`, a command that was stopped goes on where it was: models and levels are kept
there.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.case import case, data_folder
from benchmarks.data import Labelled, described
from benchmarks.peers import batches
from benchmarks.quality import overall
from benchmarks.rows import Row
from benchmarks.training import descend, levels_of, whole_model
from scoremux_files.atomic import replacing

WHOLE, SVD, DISTILLED = "whole models", "SVD", "SVD, distilled"
NOT_FACTORED, NOT_OF_THE_BASE = "Linears not factored", "SVD, embeddings and norms of the whole model"
WAYS = (WHOLE, SVD, DISTILLED, NOT_FACTORED, NOT_OF_THE_BASE)
BATCH = 16


@case(
    columns=(
        "data; not trained = frozen; import = way; rank; tasks; rows; levels kept = kept:.3f; "
        "mean of the tasks = mean_kept:.3f; lowest task = lowest_kept:.3f; mean QWK of the tasks = mean_qwk:.3f; "
        "pooled QWK = pooled_qwk:.3f; share of the Linears' difference in the rank = in_rank:.2f; "
        "share of all differences: embeddings = embeddings:.2f; norms = norms:.4f"
    ),
    keys="data frozen way rank epochs lr",
    options={
        "--rank": {"type": int, "default": 64, "help": "of all Linears (default: %(default)s)"},
        "--epochs": {"type": int, "default": 10, "help": "of distilling (default: %(default)s)"},
        "--lr": {"type": float, "default": 3e-4, "help": "of distilling (default: %(default)s)"},
        "--freeze": {"choices": ["embeddings"], "help": "do not train these of the whole models"},
        "--minutes": {"type": float, "default": float("inf"), "help": "begin no further task after this time"},
    },
)
def import_full(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Fully fine-tuned models as LoRA adapters of their base: levels of test responses that stay the same."""
    began_s = time.monotonic()
    folder = data_folder(arguments.data)
    train, test = data.read_rows(folder, "train"), data.read_rows(folder)
    fields, found = described(folder), dict[str, dict[str, Any]]()
    for task in in_turn(list(fields), folder):
        if time.monotonic() - began_s > arguments.minutes * 60:
            break
        own_train, own_test = ([row for row in rows if row.task == task] for rows in (train, test))
        found[task] = _of_task(task, len(fields[task]["levels"]), own_train, own_test, arguments, work)
        print(task, {way: round(_kept(found[task], way), 3) for way in WAYS[1:]}, flush=True)
    rows = [row for task in found for row in test if row.task == task]
    of_parts = {part: float(np.mean([of["parts"][part] for of in found.values()])) for part in ("embeddings", "norms")}
    for way in WAYS:
        kept = {task: _kept(of, way) for task, of in found.items()}
        of_tasks = {
            task: {"kept": kept[task], **overall([row for row in test if row.task == task], of["levels"][way])}
            for task, of in found.items()
        }
        yield {
            **{"data": arguments.data, "frozen": arguments.freeze, "way": way, "rank": arguments.rank},
            **{"epochs": arguments.epochs, "lr": arguments.lr, "tasks": len(found), "rows": len(rows)},
            "kept": sum(kept[row.task] for row in rows) / len(rows),
            **{"mean_kept": float(np.mean(list(kept.values()))), "lowest_kept": min(kept.values())},
            **overall(rows, [level for of in found.values() for level in of["levels"][way]]),
            "in_rank": float(np.mean([of["in_rank"] for of in found.values()])),
            **of_parts,
            "of_tasks": of_tasks,
        }


def in_turn(tasks: Sequence[str], folder: Path) -> list[str]:
    """Return tasks of a corpus by language in turn."""
    by_language: dict[str, list[str]] = {}
    for task in json.loads((folder / "tasks.json").read_text(encoding="utf-8")):
        by_language.setdefault(task["language"], []).append(task["task_id"])
    return [task for task in chain(*zip_longest(*by_language.values())) if task in tasks]


def _kept(of: dict[str, Any], way: str) -> float:
    return float(np.mean(np.array(of["levels"][way]) == of["levels"][WHOLE]))


def _of_task(
    task: str,
    levels: int,
    train: Sequence[Labelled],
    test: Sequence[Labelled],
    arguments: argparse.Namespace,
    work: Path,
) -> dict[str, Any]:
    """Return the levels of a task's test rows in each way, and what the differences hold; kept in a file of `work`."""
    import transformers

    place = work / f"{arguments.data}-{arguments.freeze}" / task
    file = place / f"{arguments.rank}-{arguments.epochs}-{arguments.lr}.json"
    if file.exists():
        return dict(json.loads(file.read_text(encoding="utf-8")))
    if not (place / "config.json").exists():
        whole_model(train, levels, frozen=arguments.freeze).save_pretrained(place)
    whole, base = (
        transformers.AutoModelForSequenceClassification.from_pretrained(
            path, num_labels=levels, attn_implementation="eager"
        ).eval()
        for path in (place, data.minilm())
    )
    found = {
        WHOLE: levels_of(whole, test),
        NOT_FACTORED: levels_of(_exchanged(whole, base), test),
        NOT_OF_THE_BASE: levels_of(factored(_exchanged(base, whole), whole, arguments.rank)[0], test),
    }
    parts = shares(whole, base)
    adapter, in_rank = factored(base, whole, arguments.rank)
    found[SVD] = levels_of(adapter, test)
    distil(adapter, whole, train, arguments.epochs, arguments.lr)
    found[DISTILLED] = levels_of(adapter, test)
    of_task = {"levels": found, "in_rank": in_rank, "parts": parts}
    with replacing(file) as aside:
        aside.write_text(json.dumps(of_task), encoding="utf-8")
    return of_task


def _kind(parameter: str) -> str:
    """Return what a parameter of a classifier belongs to."""
    if parameter.startswith("classifier"):
        return "head"
    if "LayerNorm" in parameter:
        return "norms"
    if parameter.startswith("bert.embeddings"):
        return "embeddings"
    return "Linears" if parameter.endswith("weight") else "biases"


def shares(whole: Any, base: Any) -> dict[str, float]:
    """Return the share of each kind of parameters, without the head, in the squares of all differences."""
    of_base, squares = base.state_dict(), dict.fromkeys(("Linears", "biases", "embeddings", "norms"), 0.0)
    for name, value in whole.state_dict().items():
        if (kind := _kind(name)) in squares:
            squares[kind] += float((value - of_base[name]).double().square().sum())
    return {kind: square / sum(squares.values()) for kind, square in squares.items()}


def _exchanged(model: Any, other: Any) -> Any:
    """Return a copy of a model with the embeddings and norms of another one."""
    changed = copy.deepcopy(model)
    exchanged = {name: v for name, v in other.state_dict().items() if _kind(name) in ("embeddings", "norms")}
    changed.load_state_dict(exchanged, strict=False)
    return changed


def factored(base: Any, whole: Any, rank: int) -> tuple[Any, float]:
    """Return a PEFT model over `base` whose Linears come near those of `whole`, with the head of `whole`.

    Each Linear has W + B A with B A the best approximation of rank `rank` to its difference D [out, in], and the bias
    of `whole`. The second value is the share of the squares of all D that the ranks hold.
    """
    import peft
    import torch

    base = copy.deepcopy(base)
    base.classifier.load_state_dict(whole.classifier.state_dict())
    config = peft.LoraConfig(
        **{"task_type": "SEQ_CLS", "r": rank, "lora_alpha": rank, "lora_dropout": 0.0, "lora_bias": True},
        **{"target_modules": "all-linear", "modules_to_save": ["classifier"]},
    )
    adapter = peft.get_peft_model(base, config)
    held = squares = 0.0
    for name, linear in whole.bert.named_modules():
        if not isinstance(linear, torch.nn.Linear):
            continue
        site = adapter.base_model.model.bert.get_submodule(name)
        left, sizes, right = torch.linalg.svd(linear.weight.data - site.base_layer.weight.data, full_matrices=False)
        root = sizes[:rank].sqrt()
        site.lora_A.default.weight.data = (root[:, None] * right[:rank]).contiguous()
        site.lora_B.default.weight.data = (left[:, :rank] * root).contiguous()
        site.lora_B.default.bias.data = linear.bias.data - site.base_layer.bias.data
        held += float(sizes[:rank].double().square().sum())
        squares += float(sizes.double().square().sum())
    return adapter.eval(), held / squares


def probabilities_of(model: Any, ids: Sequence[Sequence[int]]) -> list[list[float]]:
    """Return the probability of each level, rows one at a time."""
    import torch

    with torch.inference_mode():
        return [model(input_ids=torch.tensor([row])).logits[0].softmax(0).tolist() for row in ids]


def distil(adapter: Any, whole: Any, rows: Sequence[Labelled], epochs: int, lr: float) -> None:
    """Train an adapter and its head on the probabilities that the whole model gives the rows' texts."""
    from scoremux_train.recipe import Plan, Recipe
    from scoremux_train.training.batches import Example, TrainingSet

    ids = batches.TokenIds().of(rows)
    examples = [
        Example(n, int(np.argmax(shares)), own, shares=shares)
        for n, (own, shares) in enumerate(zip(ids, probabilities_of(whole, ids), strict=True))
    ]
    recipe = Recipe(epochs=epochs, batch=BATCH, class_weights=0)
    training_set = TrainingSet(rows[0].task, whole.num_labels, recipe, examples, seed=Plan().seed)
    trained = [parameter for parameter in adapter.parameters() if parameter.requires_grad]
    descend(adapter.eval(), [{"params": trained, "lr": lr}], training_set)
