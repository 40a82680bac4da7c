"""Measure how well essays are scored: whole or cut, with one adapter for six traits or six adapters.

    python examples/essays/measure.py FOLDER --backbone MODEL --out OUT [--fold N] [--essays N] [--epochs N] ARM…

An arm is `whole` (windows), `cut-N` (the first N tokens alone), or `six` and `six-cut-128` (the same with an
adapter for each trait). A fifth of the essays, drawn by their ids, is held out (`--fold`: which one); QWK is of these.
Each arm writes its points to OUT/FOLD/ARM.csv. The last table is about the essays of all folds that all arms of OUT
have scored: folds can be run one after another, and on several machines.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from run import ITEM, SCOREMUX, TRAITS, read_essays
from transformers import AutoTokenizer

from scoremux_engine import Engine
from scoremux_evidence.figures.agreement import qwk

ARMS = ("whole", "cut-512", "cut-256", "cut-128", "cut-64", "six", "six-cut-128")
_SPECIAL = 2
"""Tokens that stand around a text."""

Essay = dict[str, object]


def cut(essays: Sequence[Essay], backbone: str, tokens: int) -> list[Essay]:
    """Return essays whose texts have the tokens that a backbone of this length reads."""
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    texts = [str(essay["text"]) for essay in essays]
    ends = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return [
        {**essay, "text": text[: spans[tokens - _SPECIAL - 1][1]] if len(spans) > tokens - _SPECIAL else text}
        for essay, text, spans in zip(essays, texts, ends, strict=True)
    ]


def write_rows(file: Path, essays: Sequence[Essay], arm: str) -> None:
    """Write labelled rows: one for each essay, or one for each essay and trait."""
    rows = [{**essay, "task": ITEM} for essay in essays]
    if arm.startswith("six"):
        rows = [{**essay, "task": trait, "score": essay[trait]} for essay in essays for trait in TRAITS]
    names = ("id", "task", "text", *(("score",) if arm.startswith("six") else TRAITS))
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def run_arm(arm: str, train: Sequence[Essay], test: Sequence[Essay], options: argparse.Namespace) -> None:
    """Train an arm, score the essays that were held out, and write OUT/ARM.csv."""
    out = options.out / str(options.fold)
    folder = out / arm
    folder.mkdir(parents=True, exist_ok=True)
    if "cut" in arm:
        train, test = (cut(essays, options.backbone, int(arm.rsplit("-", 1)[1])) for essays in (train, test))
    write_rows(folder / "train.csv", train, arm)
    if not arm.startswith("six"):
        named = "".join(f'{trait} = "{trait}"\n' for trait in TRAITS)
        (folder / "columns.toml").write_text(f"[traits]\n{named}", encoding="utf-8")
    windows = str("cut" not in arm).lower()
    lr = f"lr = {options.lr}\n" if options.lr else ""
    recipe = f"epochs = {options.epochs}\nbatch = {options.batch}\n{lr}windows = {windows}\n"
    (folder / "train.toml").write_text(f"folds = 0\n\n[recipe]\n{recipe}", encoding="utf-8")
    trained, store, repo = folder / "trained", folder / "store", out / "repo"
    config = ("--config", folder / "train.toml", "--cores", 1)
    commands: list[tuple[object, ...]] = [
        ("train", folder / "train.csv", "--backbone", options.backbone, *config, "--out", trained)
    ]
    if not repo.exists():
        commands.append(("export", "backbone", options.backbone, "--for", trained, "--out", repo))
    adapters = [trained / task for task in (TRAITS if arm.startswith("six") else (ITEM,))]
    commands.append(("tasks", "add", *adapters, "--store", store, "--backbone", repo / "backbone/1"))
    started = time.monotonic()
    for words in commands:
        subprocess.run([SCOREMUX, *map(str, words)], check=True)
    names = [trait if arm.startswith("six") else f"{ITEM}.{trait}" for _ in test for trait in TRAITS]
    scored = Engine.open(repo, store=store).score([str(essay["text"]) for essay in test for _ in TRAITS], names)
    points = np.array([one.score for one in scored]).reshape(len(test), len(TRAITS))
    with (out / f"{arm}.csv").open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows(
            [("id", *TRAITS), *((essay["id"], *row) for essay, row in zip(test, points, strict=True))]
        )
    print(f"{arm}: {len(train)} essays, {time.monotonic() - started:.0f} s", flush=True)


def agreement(out: Path, essays: Sequence[Essay], long_ids: set[str]) -> None:
    """Print the mean QWK of the traits for each arm, and its difference from `whole` with an interval of 95 %."""
    scored: dict[str, dict[str, dict[str, str]]] = {}
    for file in sorted(out.glob("[0-4]/*.csv")):
        with file.open(encoding="utf-8") as lines:
            scored.setdefault(file.stem, {}).update((row["id"], row) for row in csv.DictReader(lines))
    test = [essay for essay in essays if all(essay["id"] in rows for rows in scored.values())]
    human = np.array([[float(str(essay[trait])) for trait in TRAITS] for essay in test])
    is_long = np.array([essay["id"] in long_ids for essay in test])
    machine = {
        arm: np.array([[float(scored[arm][str(essay["id"])][trait]) for trait in TRAITS] for essay in test])
        for arm in ARMS
        if arm in scored
    }

    def mean_qwk(arm: str, chosen: np.ndarray) -> float:
        both = (2 * human[chosen]).astype(int), (2 * machine[arm][chosen]).astype(int)
        return float(np.mean([qwk(both[0][:, trait], both[1][:, trait]) for trait in range(len(TRAITS))]))

    draw = np.random.default_rng(1)
    for name, essays in (("all", np.flatnonzero(is_long | True)), ("longer than 512 tokens", np.flatnonzero(is_long))):
        samples = [draw.choice(essays, len(essays)) for _ in range(500)]
        for arm in machine:
            line = f"{name}, {len(essays)} essays, {arm}: mean QWK {mean_qwk(arm, essays):.3f}"
            if arm != "whole" and "whole" in machine:
                less = [mean_qwk("whole", sample) - mean_qwk(arm, sample) for sample in samples]
                low, high = np.quantile(less, [0.025, 0.975])
                line += (
                    f", whole − {arm} {mean_qwk('whole', essays) - mean_qwk(arm, essays):.3f} ({low:.3f} – {high:.3f})"
                )
            print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how well essays are scored.")
    parser.add_argument("folder", type=Path, help="folder with essays.jsonl")
    parser.add_argument("arms", nargs="*", help=f"{', '.join(ARMS)}; none: print the last table alone")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--essays", type=int, help="train on this many essays; all where absent")
    parser.add_argument("--fold", type=int, choices=range(5), default=0)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, help="that of `scoremux train` where absent")
    options = parser.parse_args()
    if unknown := sorted({*options.arms} - {*ARMS}):
        parser.error(f"there is no arm {unknown[0]}")
    parts = read_essays(options.folder, options.fold)
    for arm in options.arms:
        run_arm(arm, parts["train"][: options.essays], parts["test"], options)
    essays = [*parts["train"], *parts["test"]]
    shorter = cut(essays, options.backbone, 512)
    long_ids = {str(a["id"]) for a, b in zip(essays, shorter, strict=True) if a["text"] != b["text"]}
    agreement(options.out, essays, long_ids)


if __name__ == "__main__":
    main()
