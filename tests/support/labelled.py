"""Made-up labelled responses that a small model can learn: the more right words, the higher the level."""

from __future__ import annotations

import json
import random
from pathlib import Path

from making import WORDS

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
