"""Labels: do responses that `scoremux sample` chooses teach more than random ones?

    python -m benchmarks labels --data SCIENTSBANK --labels 10 20 30 50

Of each task of a training split so many responses are chosen, again and again; a logistic regression on the backbone's
own vectors, cheap enough for many draws, is fitted to them and tried on held-out responses. `--held rest` takes all
that were not chosen, which are other ones for each way of choosing: copies of what `sample` chose are among them, which
flatters it. `--held third` holds a third back before anything is chosen, the same for all ways. `sample, twice` chooses
half of them, fits the regression, and chooses the other half by its uncertainty, too. Intervals are of a resampling of
tasks.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import data
from benchmarks.case import case, data_folder
from benchmarks.data import Labelled
from benchmarks.rows import Row
from scoremux_assess.agreement.similar_texts import near_copies
from scoremux_assess.agreement.statistics import qwk
from scoremux_assess.sampling.drawing import Candidates, draw

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
RANDOM, SAMPLE, TWICE = "at random", "sample", "sample, twice"
_EPOCHS, _RATE, _DECAY = 100, 0.02, 1.0


@dataclass(frozen=True)
class TaskRows:
    """A task's responses: their texts, humans' levels, the backbone's vectors, and how many levels there are."""

    name: str
    rows: Sequence[Labelled]
    vectors: npt.NDArray[np.float32]
    levels: int

    @cached_property
    def copies(self) -> Ints:
        """A number for each response, equal for near copies."""
        return np.unique(near_copies([row.text for row in self.rows]), return_inverse=True)[1].reshape(-1)

    @property
    def human(self) -> Ints:
        return np.array([row.level for row in self.rows])


def read(folder: Path, tasks: int, work: Path) -> dict[str, TaskRows]:
    """Return the training split of a corpus by task, with the vectors that a head would read; `work` keeps them."""
    rows, fields, kept = data.read_rows(folder, "train"), data.described(folder), work / f"vectors-{folder.name}.npy"
    if not kept.exists():
        np.save(kept, _vectors([row.text for row in rows]))
    vectors, of_task = np.load(kept), {}
    for name in sorted(fields)[:: -(-len(fields) // tasks)]:
        places = [place for place, row in enumerate(rows) if row.task == name]
        levels = len(fields[name]["levels"])
        of_task[name] = TaskRows(name, [rows[place] for place in places], vectors[places], levels)
    return of_task


def _vectors(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(data.minilm())
    model: Any = transformers.AutoModel.from_pretrained(data.minilm()).eval()
    vectors = np.zeros((len(texts), model.config.hidden_size), np.float32)
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    with torch.inference_mode():
        for start in range(0, len(order), 32):
            places = order[start : start + 32]
            part = [texts[place] for place in places]
            inputs = tokenizer(part, padding=True, truncation=True, max_length=512, return_tensors="pt")
            vectors[places] = model(**inputs).pooler_output.numpy()
    return vectors


def logistic(tasks: Mapping[str, TaskRows], chosen: Mapping[str, Sequence[Ints]]) -> dict[str, list[Floats]]:
    """Fit a logistic regression with weight decay to each set of places, all of a task's at once.

    Returns:
        The probabilities of all responses by task, float64 [B, L], for each set of places.
    """
    import torch

    out = {}
    for name, sets in chosen.items():
        task = tasks[name]
        x = torch.from_numpy(task.vectors - task.vectors.mean(axis=0))
        x *= 4 / float(x.square().sum(1).mean().sqrt() + 1e-9)
        human, most = torch.from_numpy(task.human), max(map(len, sets))
        places = torch.stack([torch.from_numpy(np.resize(own, most)) for own in sets])
        share = torch.stack([(torch.arange(most) < len(own)) / len(own) for own in sets])
        w = torch.zeros((len(sets), x.shape[1], task.levels), requires_grad=True)
        b = torch.zeros((len(sets), 1, task.levels), requires_grad=True)
        groups: list[dict[str, Any]] = [{"params": [w], "weight_decay": _DECAY}, {"params": [b], "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=_RATE)
        seen, levels = x[places], human[places][..., None]
        for _ in range(_EPOCHS):
            logp = torch.log_softmax(seen @ w + b, 2)
            loss = -(share * logp.gather(2, levels)[..., 0]).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.inference_mode():
            out[name] = list(torch.softmax(x @ w + b, 2).numpy().astype(np.float64))
    return out


def choices(
    way: str, tasks: Mapping[str, TaskRows], pools: Mapping[str, Sequence[Ints]], count: int
) -> dict[str, list[Ints]]:
    """Return the places that a way of choosing takes of each pool, by task."""
    if way == RANDOM:
        return {
            name: [np.random.default_rng([seed, count]).permutation(pool)[:count] for seed, pool in enumerate(of_task)]
            for name, of_task in pools.items()
        }
    if way == SAMPLE:
        return {name: [_drawn(tasks[name], p, count, n) for n, p in enumerate(of)] for name, of in pools.items()}
    half = choices(SAMPLE, tasks, pools, count // 2)
    predicted = logistic(tasks, half)
    both = {}
    for name, of_task in pools.items():
        places = []
        for n, (pool, first) in enumerate(zip(of_task, half[name], strict=True)):
            more = _drawn(tasks[name], pool, count - len(first), n, predicted[name][n], first)
            places.append(np.concatenate([first, more]))
        both[name] = places
    return both


def _drawn(
    task: TaskRows, pool: Ints, count: int, seed: int, predicted: Floats | None = None, labelled: Ints | None = None
) -> Ints:
    """Return the places that `scoremux sample` would choose of a pool."""
    candidates = Candidates(task.copies[pool], task.vectors[pool], None if predicted is None else predicted[pool])
    drawn = draw(candidates, count, seed, task.name, np.isin(pool, () if labelled is None else labelled))
    return pool[drawn.rows]


def compare(tasks: Mapping[str, TaskRows], count: int, rounds: int, held: str, ways: Sequence[str]) -> Iterator[Row]:
    """Yield mean QWK of each way, and its difference from random choice with an interval by resampling of tasks."""
    everything = {name: np.arange(len(task.rows)) for name, task in tasks.items()}
    pools: dict[str, list[Ints]] = {name: [places] * rounds for name, places in everything.items()}
    if held == "third":
        pools = {name: [_two_thirds(task, turn) for turn in range(rounds)] for name, task in tasks.items()}
    kappas: dict[str, Floats] = {}
    sizes = {}
    for way in ways:
        chosen = choices(way, tasks, pools, count)
        predicted = logistic(tasks, chosen)
        table = np.full((len(tasks), rounds), np.nan)
        for row, (name, task) in enumerate(tasks.items()):
            for turn in range(rounds):
                of = pools[name][turn] if held == "third" else chosen[name][turn]
                out = np.setdiff1d(everything[name], of)
                if len(out) > 1:
                    levels = predicted[name][turn][out].argmax(axis=1)
                    table[row, turn] = qwk(task.human[out].tolist(), levels.tolist())
        with np.errstate(all="ignore"):
            kappas[way] = np.array([np.nanmean(r) if not np.isnan(r).all() else np.nan for r in table])
        sizes[way] = float(np.mean([len(places) for of_task in chosen.values() for places in of_task]))
    resampled = np.random.default_rng(31).integers(len(tasks), size=(2000, len(tasks)))
    for way in ways:
        difference = kappas[way] - kappas[RANDOM]
        low, high = np.nanquantile(np.nanmean(difference[resampled], axis=1), [0.025, 0.975])
        more = {"difference": f"{np.nanmean(difference):+.3f} ({low:+.3f} – {high:+.3f})"} if way != RANDOM else {}
        yield {"way": way, "labelled": sizes[way], "mean_qwk": float(np.nanmean(kappas[way])), **more}


def _two_thirds(task: TaskRows, seed: int) -> Ints:
    """Return the places that are not held back; near copies are on one side."""
    order = np.random.default_rng([seed, 3]).permutation(task.copies.max() + 1)
    return np.flatnonzero(np.isin(task.copies, order[len(order) // 3 :]))


@case(
    columns=(
        "data; held out = held; labels a task = labels; tasks; draws; way; labelled, mean = labelled:.1f; "
        "mean QWK of the tasks = mean_qwk:.3f; more than at random (95 % interval) = difference"
    ),
    keys="data held labels tasks way",
    options={
        "--labels": {"type": int, "nargs": "+", "default": [50], "help": "how many of each task"},
        "--held": {"nargs": "+", "choices": ["rest", "third"], "default": ["third"]},
        "--tasks": {"type": int, "default": 27, "help": "at most so many (default: %(default)s)"},
        "--ways": {"nargs": "+", "choices": [RANDOM, SAMPLE, TWICE], "default": [RANDOM, SAMPLE, TWICE]},
    },
    defaults={"rounds": 100},
)
def labels(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Responses chosen by `scoremux sample` against random ones, on training splits."""
    tasks = read(data_folder(arguments.data), arguments.tasks, work)
    for held in arguments.held:
        for count in arguments.labels:
            setting = {"data": arguments.data, "held": held, "labels": count}
            for row in compare(tasks, count, arguments.rounds, held, arguments.ways):
                yield {**setting, "tasks": len(tasks), "draws": arguments.rounds, **row}
