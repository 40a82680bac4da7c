"""One task's responses → those that people label next, each with the probability with which it was chosen."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scoremux_batch.parts import text_column
from scoremux_batch.sources import expand
from scoremux_client.contract import Status
from scoremux_evidence.rows.label_columns import LabelColumns
from scoremux_evidence.rows.reading import Labels, common_key, read_labels
from scoremux_evidence.rows.similar_texts import related
from scoremux_evidence.rows.table import Floats, Ints, Rows, groups_of
from scoremux_evidence.rows.weighing import SAMPLE
from scoremux_files.errors import InputError
from scoremux_files.rows.writers import write_rows

EQUAL = 0.5
"""Share of the sample that is divided equally among strata; the rest is divided by their size.

A response therefore stands for at most 1 / (1 − EQUAL) times as many others as in a simple random sample.
"""

MOST = 10_000
"""Responses of a task that are compared with each other for near copies."""


_DRAWN_BY = ("id", "task", "administration", "text", "student")


@dataclass(frozen=True)
class SampledRows:
    """The chosen rows of B responses.

    Attributes:
        rows, probability: The places of the chosen responses in the file, and how probable each choice was.
        units: How many responses could have been chosen together: near copies, and a student's, count once.
        left_out: How many responses are labelled, near copies of labelled ones, or of the same student.
    """

    rows: Ints
    probability: Floats
    units: int
    left_out: int


@dataclass(frozen=True)
class TaskSample:
    """The sample of a task: the rows of the queue, and of how many responses."""

    task: str
    rows: Rows
    responses: int
    drawn: SampledRows


def choose(pool: Labels, labelled: Labels, count: int, seed: int) -> list[TaskSample]:
    """Draw `count` responses of each task, by task. Labelled responses and their near copies are not chosen."""
    key = common_key(pool, labelled)
    rows = _by_item(labelled.rows, pool.rows.task.values)
    labelled_keys = {*key(rows)}
    with_text = rows.where(rows.text.astype(bool))
    of_labelled = with_text.by_task() if len(with_text) else {}
    samples = []
    for task, responses in sorted(pool.rows.by_task().items()):
        places = thin(len(responses), seed, task)
        rows = responses.where(places)
        # Labelled responses come last: what is drawn of the others has their places.
        both = Rows.joined([rows.only(_DRAWN_BY), of_labelled[task].only(_DRAWN_BY)]) if task in of_labelled else rows
        strata = [""] * len(both)
        for codes in groups_of(rows).values():
            for place, value in enumerate(codes.texts()):
                strata[place] += value or ""
        drawn = draw(
            related([text or "" for text in both.text], both.student.code),
            strata,
            count,
            seed,
            task,
            np.array([name in labelled_keys for name in key(both)], bool),
        )
        drawn = replace(drawn, left_out=drawn.left_out - len(both) + len(rows))
        chosen = rows.where(drawn.rows).plus(probability=len(places) / len(responses) * drawn.probability)
        samples.append(TaskSample(task, chosen, len(responses), drawn))
    return samples


def read_unlabelled(sources: Sequence[str], out: Path, columns: LabelColumns) -> Labels:
    """Return the responses of files. Raises InputError, also where there is none."""
    columns = replace(columns, traits={})
    pool = read_labels([Path(source.path) for source in expand(sources, out)], columns, ("task", "text"))
    pool.require(columns)
    if not len(pool.rows):
        raise InputError(f"there are no rows in {', '.join(sources[:3])}")
    return pool


def read_without(files: Sequence[Path], columns: LabelColumns) -> Labels:
    """Return rows that must not be chosen. Columns have the names of the responses' ones, or those of scoremux."""
    columns = replace(columns, student=columns.student or "student", groups=(), traits={}, own_names=True)
    return read_labels(files, columns, ("id", "task"))


def _by_item(labelled: Rows, tasks: Collection[str]) -> Rows:
    """Return labelled rows, those of a trait as rows of its item where the responses to draw from are of the item."""
    traits = {*labelled.task.values} - {*tasks}
    items = {name: item for name in traits if (item := name.rpartition(".")[0]) in tasks}
    return labelled.plus(task=labelled.task.renamed(lambda name: items.get(name, name)))


def write_queue(out: Path, samples: Sequence[TaskSample]) -> None:
    """Write the chosen responses of all tasks, without a score, for the desk."""
    parts = [sample.rows for sample in samples if len(sample.rows)]
    rows = Rows.joined([part.only((*_DRAWN_BY, "probability")) for part in parts or [samples[0].rows]])
    columns = {
        "id": text_column(rows.id.tolist()),
        "task": text_column(rows.task.texts()),
        "status": [Status.UNKNOWN_TASK.value] * len(rows),
        "level": pa.array([-1] * len(rows), "int32"),
        **dict.fromkeys(("version", "arithmetic"), [""] * len(rows)),  # levels of such files are the machine's
        "text": text_column(rows.text.tolist()),
        "student": text_column(rows.student.texts()),
        "chosen_by": [SAMPLE] * len(rows),
        "probability": rows.probability,
    }
    if any(rows.administration.texts()):
        columns["administration"] = text_column([name or "" for name in rows.administration.texts()])
    table = pa.table(columns)
    write_rows(out, [table], table.schema)


def thin(count: int, seed: int, task: str, most: int = MOST) -> list[int]:
    """Return the places of all responses of a task or, of more than `most`, of `most` at random.

    Each is among them with probability most / count, by which that of `draw` is multiplied (two-phase sampling).
    """
    if count <= most:
        return list(range(count))
    return sorted(map(int, generator(seed, task, "thin").choice(count, most, replace=False)))


def draw(
    related: Sequence[int], strata: Sequence[str], count: int, seed: int, task: str, labelled: npt.NDArray[np.bool_]
) -> SampledRows:
    """Choose responses of a task from all strata: one at most of near copies, and of one student's.

    The stratum of a unit is that of its first response; each response of a chosen unit is as likely to be drawn.

    Args:
        related: A number for each of B responses, equal for those of one unit (`similar_texts.related`).
        count: How many to choose; fewer if there are not as many units.
        seed: The draw depends on it and on `task`.
        labelled: Bool [B], responses that have a label already: their units are left out.
    """
    random = generator(seed, task, "draw")
    _, unit = np.unique(np.array(related, np.int64), return_inverse=True)
    taken = np.zeros(unit.max(initial=-1) + 1, bool)
    taken[unit[labelled]] = True
    open_rows = np.flatnonzero(~taken[unit])
    left_out = len(unit) - len(open_rows)
    if not len(open_rows):
        return SampledRows(open_rows, np.empty(0), 0, left_out)
    _, first, unit, rows = np.unique(unit[open_rows], return_index=True, return_inverse=True, return_counts=True)
    _, stratum = np.unique([strata[place] for place in open_rows[first]], return_inverse=True)
    in_stratum = np.bincount(stratum, weights=rows)
    size = rows * ((1 - EQUAL) / rows.sum() + EQUAL / len(in_stratum) / in_stratum[stratum])
    chance = inclusion_probabilities(size, count)
    chosen = np.flatnonzero(_draw_systematically(chance, stratum, random))
    order = random.permutation(len(unit))
    picked = np.sort(order[np.unique(unit[order], return_index=True)[1]][chosen])  # of each unit, a row at random
    return SampledRows(open_rows[picked], chance[unit[picked]] / rows[unit[picked]], len(rows), left_out)


def inclusion_probabilities(size: Floats, count: int) -> Floats:
    """Return probabilities proportional to sizes, 1 at most, that sum to `count`: float64 [N].

    π = min(1, c · size), with c such that Σ π = count

    Args:
        size: The size of each unit, above 0, float64 [N].
        count: How many units are chosen; with as many units or fewer, all are.
    """
    if count >= len(size):
        return np.ones(len(size))
    certain = np.zeros(len(size), bool)
    while True:
        share = np.where(certain, 0.0, size)
        chance = np.where(certain, 1.0, (count - certain.sum()) * share / share.sum())
        if not (chance > 1).any():
            return chance
        certain |= chance >= 1


def _draw_systematically(chance: Floats, stratum: Ints, random: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return which units are chosen, bool [N]: each with its probability, Σ chance in all, rounded likewise by stratum.

    Units lie in a row by stratum, in a random order within it, each as long as its probability; a unit is chosen where
    one of the points u, u + 1, u + 2, … lies on it.
    """
    order = np.lexsort((random.random(len(chance)), stratum))
    ends = np.floor(np.round(np.cumsum(chance[order]), 9) + random.random())
    chosen = np.zeros(len(chance), bool)
    chosen[order] = np.diff(ends, prepend=0) > 0
    return chosen


def derived_key(*parts: object) -> int:
    """Return 64 bits that depend on `parts` alone: the seed of orders, starts and dropout masks."""
    return int.from_bytes(hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest(), "little")


def generator(*parts: object) -> np.random.Generator:
    """Return a generator whose draws depend on `parts` alone."""
    return np.random.Generator(np.random.Philox(key=derived_key(*parts)))
