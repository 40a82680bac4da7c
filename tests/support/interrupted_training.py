"""`scoremux train` in a forked process that is killed at a random operation, until it has finished."""

import json
import multiprocessing
import random
from pathlib import Path

import torch

from killed_commands import kill_at
from making import WORDS, make_encoder
from scoremux_train.commands import TrainOptions, train_as

PLAN = "folds = 2\n[recipe]\nepochs = 6\nrank = 4\n"


def prepare(folder: Path) -> Path:
    """Write a small model, labelled responses and a plan into `folder`; return it."""
    make_encoder(folder / "model")
    write_labelled(folder / "rows.jsonl", rows=24)
    (folder / "train.toml").write_text(PLAN)
    return folder


def run(folder: Path, out: Path, checkpoint_s: float = 0.0, moment: tuple[int, float] | None = None) -> None:
    """Train in this process; moment: when it is killed, as for `kill_at`."""
    if moment is not None:
        kill_at(out, *moment)
    torch.set_num_threads(1)
    rows, plan = folder / "rows.jsonl", folder / "train.toml"
    train_as(TrainOptions([rows], str(folder / "model"), out, config=plan), checkpoint_s)


def run_in_child(folder: Path, out: Path, moment: tuple[int, float] | None = None) -> None:
    child = multiprocessing.get_context("fork").Process(target=run, args=(folder, out, 0.0, moment))
    child.start()
    child.join()
    assert child.exitcode == (-9 if moment else 0)


def run_with_kills(folder: Path, out: Path, kills: int, seed: int, operations: int) -> int:
    """Start the same command again and again, killing it at random moments; return how many kills hit it running.

    Each kill is at one of the first `operations` on files below `out`, every other one up to 20 ms later; after `kills`
    of them it is left to finish.
    """
    draw, hit = random.Random(seed), 0
    for turn in range(kills + 1):
        moment = (draw.randint(1, operations), turn % 2 * draw.uniform(0, 0.02)) if turn < kills else None
        arguments = (folder, out, draw.choice([0.0, 0.2]), moment)
        child = multiprocessing.get_context("fork").Process(target=run, args=arguments)
        child.start()
        child.join()
        if child.exitcode == 0:
            break
        assert child.exitcode == -9, "the command failed by itself"
        hit += 1
    return hit


def adapters(out: Path) -> dict[str, bytes]:
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != ".training.lock")
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


RIGHT = {"t-a": "addresses", "t-b": "router", "t-c": "protocol"}
"""Task → the word that makes its responses right."""


def write_labelled(path: Path, rows: int = 40, tasks: tuple[str, ...] = tuple(RIGHT), seed: int = 3) -> Path:
    """Write JSONL with `rows` rows a task, of three levels in t-b and two in the others."""
    lines = []
    for task in tasks:
        draw = random.Random(f"{seed}/{task}")
        for number in range(rows):
            level = number % (3 if task == "t-b" else 2)
            words = draw.choices(WORDS, k=draw.randint(3, 12)) + [RIGHT[task]] * (2 * level)
            draw.shuffle(words)
            lines.append({"id": f"{task}.{number}", "task": task, "text": " ".join(words), "level": level})
    random.Random(seed).shuffle(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path
