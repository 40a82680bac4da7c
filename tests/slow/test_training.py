"""`scoremux train`: out-of-fold agreement against that of new students."""

import json
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from transformers import AutoTokenizer

from making import WORDS, make_encoder
from mixed_store import open_with_peft
from scoremux_train.commands import train
from waiting import Result


def test_out_of_fold_agreement_is_that_of_new_students(tmp_path: Path, result: Result) -> None:
    """Made-up students with habits: five rows each to train on, and 1,500 new ones with a row each."""
    model = make_encoder(tmp_path / "model")
    _students(tmp_path / "rows.jsonl", 60, 5, seed=1)
    new = _students(tmp_path / "new.jsonl", 1500, 1, seed=2)
    (tmp_path / "train.toml").write_text("folds = 5\n[recipe]\nepochs = 20\nlr = 0.003\n")
    shares = {}
    for column in ("student", ""):
        out = tmp_path / f"by-{column}"
        train(
            [tmp_path / "rows.jsonl"],
            str(model),
            out,
            config=tmp_path / "train.toml",
            column=[f"student={column}"] if column else None,
        )
        rows = pq.read_table(out / "predictions.parquet").to_pylist()
        shares[column] = float(np.mean([int(np.argmax(row["probabilities"])) == row["level"] for row in rows]))
        oracle, tokenizer = open_with_peft(str(model), out / "t", 2), AutoTokenizer.from_pretrained(model)
        with torch.inference_mode():
            tokens = tokenizer([str(row["text"]) for row in new], padding=True, return_tensors="pt")
            levels = oracle(**tokens).logits.argmax(1).tolist()
        shares["new"] = float(np.mean([level == row["level"] for level, row in zip(levels, new, strict=True)]))
    result(
        "out-of-fold agreement by student, without students, and of 1,500 new students",
        f"{shares['student']:.3f}, {shares['']:.3f}, {shares['new']:.3f}",
    )
    assert abs(shares["student"] - shares["new"]) < 0.055 < shares[""] - shares["new"]  # 0.055: two standard errors


def _students(path: Path, students: int, each: int, seed: int) -> list[dict[str, object]]:
    """Write rows of task t: a student's have four words of their own, and mostly one level."""
    draw, rows = random.Random(seed), list[dict[str, object]]()
    for student in range(students):
        habit, usual = draw.sample(WORDS, 4), draw.random() < 0.5
        for number in range(each):
            level = int(usual if draw.random() < 0.9 else not usual)
            right = draw.random() < (0.75 if level else 0.25)
            words = habit * 2 + draw.choices(WORDS, k=4) + ["router"] * 3 * right
            draw.shuffle(words)
            name = f"{seed}.{student}"
            rows.append(
                {"id": f"{name}.{number}", "task": "t", "text": " ".join(words), "level": level, "student": name}
            )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows
