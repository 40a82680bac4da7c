"""Train the classifier of conditions `A` and `U` on written cases, and write its weights.

    python tests/data/conditions/train_classifier.py            writes response_classifier.json
    python tests/data/conditions/train_classifier.py --unseen   trains without each writer, prints the recall on it

`--unseen` reads the corpora under SCOREMUX_DATA, for false codes alone: no weight depends on a corpus. Logistic
regression with a squared penalty, on the development half of the first writer's cases, on all of the third to
sixth writers', and on joined cases: several honest answers to a question make a long one. The second writer's are
for figures.
"""

from __future__ import annotations

import argparse
import json
import random
import zlib
from base64 import b85encode
from collections import defaultdict
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from scoremux_assess.decisions.conditions import response_classifier
from scoremux_assess.decisions.conditions.finder import Finder
from scoremux_assess.decisions.conditions.folding import fold, visible, words
from scoremux_assess.decisions.conditions.response_classifier import CODES, UNIT
from scoremux_assess.decisions.conditions.response_features import (
    ONE,
    PLACES,
    RUNS,
    count_names,
    features,
    letters,
    place,
)
from scoremux_assess.decisions.conditions.rules import Conditions
from scoremux_assess.decisions.conditions.source_text import SourceText
from scoremux_assess.decisions.policy import read_policy

HERE = Path(__file__).parent
WRITERS = {"first": ("en", "de"), "third": ("third_writer",), "fourth": ("fourth_writer",), "sixth": ("sixth_writer",)}
HONEST = {"fifth": ("fifth_writer",)}
"""Whose cases are honest answers alone, which are always trained on."""
SCALES = {"w": 2.0, "b": 2.0, "m": 2.0, "s": 2.0, "n": 0.5, "x": 0.5}
"""First letter of a feature → its scale: the penalty is smaller where it is larger."""
PENALTY, JOINED, WEIGHT, STEPS = 2.0, 5000, 0.5, 60
LEAST = {"A": 2.4, "U": 1.7}
"""Least score of each code, set so that SAF and SciEntsBank (both splits) have no more false codes than allowed."""
BESIDE_PHRASE = -2.0
"""Least score of `A` beside a phrase of the lists."""
BETWEEN = [". ", ". ", ". ", ", ", "\n", " ", "; "]
Row = dict[str, Any]


def cases(whole: bool) -> list[Row]:
    """The written cases; whole: with the held-out half of the first writer's."""
    rows = []
    for writer, names in {**WRITERS, **HONEST}.items():
        for name in names:
            lines = (HERE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
            rows += [json.loads(line) | {"writer": writer} for line in lines]
    return [row for row in rows if whole or row.get("split") != "held_out"]


def joined(rows: Sequence[Row]) -> list[Row]:
    """Longer responses: cases of a code, writer and question after one another; honest ones with the reference too."""
    draw = random.Random("joined cases")
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["code"] in ("", *CODES):
            groups[row["code"], row["writer"], row["language"], row["question"]].append(row)
    honest = sorted(key for key in groups if not key[0])
    coded = sorted(key for key in groups if key[0])
    made = []
    for index in range(JOINED * 4 // 3):
        group = groups[draw.choice(honest if index < JOINED else coded)]
        row = draw.choice(group)
        parts = [draw.choice(group)["text"] for _ in range(draw.randint(2, 6 if index < JOINED else 3))]
        if index < JOINED and draw.random() < 0.4:
            parts.insert(draw.randrange(len(parts)), row["reference"])
        text = draw.choice(BETWEEN).join(part.rstrip(".") for part in parts) + draw.choice([".", ""])
        made.append(row | {"text": text, "joined": True})
    return made


def matrix(rows: Sequence[Row]) -> tuple[csr_matrix, np.ndarray]:
    """Features of responses at their places, and the scale of each place."""
    scale = np.ones(PLACES)
    sources: dict[str, SourceText] = {}
    of_counts = [(kind, itemgetter(*counts), names) for kind, counts, names in count_names()]
    values: list[float] = []
    places: list[int] = []
    ends = [0]
    for row in rows:
        question, reference = (sources.setdefault(row[key], SourceText(row[key])) for key in ("question", "reference"))
        said = words(fold(row["text"]))
        if not said:  # of no interest to the classifier
            ends.append(len(places))
            continue
        read = features(said, visible(row["text"]), question, reference)
        kinds: dict[str, list[int]] = {
            kind: [run % PLACES for run in set(runs)] for kind, runs in zip(RUNS, read.runs, strict=True)
        }
        for word in sorted(read.words):
            of_word, *of_letters = letters(word)
            kinds.setdefault("w", []).append(of_word)
            kinds.setdefault("c", []).extend(of_letters)
        kinds["n"] = [place("n")]
        for kind, counts_of, names in of_counts:
            kinds.setdefault(kind, []).append(place(names[counts_of(read.counts)]))
        for kind, of_kind in kinds.items():
            places += of_kind
            values += [1.0 if kind in "nxm" else read.factor / ONE] * len(of_kind)
            scale[list(of_kind)] = SCALES.get(kind, 1.0)
        ends.append(len(places))
    return csr_matrix((np.array(values), places, ends), shape=(len(rows), PLACES)), scale


def train(table: csr_matrix, hits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weights of one code. hits: 1, 0, or NaN for cases that do not count."""
    counts = ~np.isnan(hits)
    table, sign, weights = table[counts], 2 * hits[counts] - 1, weights[counts]
    across = table.T.tocsr()

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (table @ point)
        slope = -sign * weights / (1 + np.exp(np.clip(margin, -50, 50)))
        total = (weights * np.logaddexp(0, -margin)).sum() + PENALTY / 2 * point @ point
        return total, across @ slope + PENALTY * point

    return minimize(loss, np.zeros(PLACES), jac=True, method="L-BFGS-B", options={"maxiter": STEPS}).x


def targets(rows: Sequence[Row], code: str) -> np.ndarray:
    """Whether each case has a code; NaN where it may have it."""
    return np.array([1.0 if row["code"] == code else np.nan if code in row.get("also", "") else 0.0 for row in rows])


def trained(table: csr_matrix, scale: np.ndarray, rows: Sequence[Row]) -> np.ndarray:
    """Weights, places × codes; those of places that one case alone has are 0."""
    common = np.asarray((table != 0).sum(axis=0)).ravel() > 1
    weights = np.array([WEIGHT if "joined" in row else 1.0 for row in rows])
    scale = scale * common
    found = [train(table.multiply(scale).tocsr(), targets(rows, code), weights) for code in CODES]
    return np.stack(found, axis=1) * scale[:, None]


def corpora(folder: Path) -> list[Row]:
    """The answers of both corpora that are no refusal, with `full`, whether their score is full, and their split."""
    policy = read_policy(HERE.parents[2] / "examples/policy.toml").conditions
    rules = Conditions(placeholder=policy.placeholder, refusal=policy.refusal)
    rows = []
    for corpus in ("saf", "scientsbank"):
        tasks = {task["task_id"]: task for task in json.loads((folder / corpus / "tasks.json").read_text("utf-8"))}
        for split in ("train", "test"):
            for line in (folder / corpus / f"{split}.jsonl").read_text("utf-8").splitlines():
                row = json.loads(line)
                task = tasks[row["task_id"]]
                levels, reference = task["levels"], " ".join(task["reference_answers"])
                full = row["level"] == (levels - 1 if isinstance(levels, int) else max(levels))
                found = Finder(rules, task["question"], reference, [task["language"]]).find(row["text"])
                if found is None:
                    texts = {"question": task["question"], "reference": reference, "text": row["text"]}
                    rows.append(texts | {"full": full, "split": split})
    return rows


def show_unseen(folder: Path) -> None:
    """Print the recall of each code on each writer's cases by what the others' teach, at shares of false codes."""
    rows = cases(whole=True)
    count = len(rows)
    rows += joined(rows)
    answers = corpora(folder)
    (table, scale), (answered, _) = matrix(rows), matrix(answers)
    writers, codes, languages = (np.array([row[key] for row in rows]) for key in ("writer", "code", "language"))
    real, full = np.arange(len(rows)) < count, np.array([row["full"] for row in answers])
    print("writer code language: recall / honest answers with the code, at 0.1, 0.2, 0.5, 1, 2 % false codes")
    for writer in WRITERS:
        known = writers != writer
        weights = trained(table[known], scale, [row for row, kept in zip(rows, known, strict=True) if kept])
        of_cases, of_answers = table @ weights, answered @ weights
        for column, code in enumerate(CODES):
            limits = [np.quantile(of_answers[:, column], 1 - share) for share in (0.001, 0.002, 0.005, 0.01, 0.02)]
            for language in ("en", "de"):
                own = real & ~known & (languages == language)
                shares = [
                    [(of_cases[own & (codes == kind), column] >= limit).mean() for limit in limits]
                    for kind in (code, "")
                ]
                cells = [f"{hit:.2f}/{false:.3f}" for hit, false in zip(*shares, strict=True)]
                print(writer, code, language, *cells)
            print("  limits", *(f"{limit:.2f}/{(of_answers[full, column] >= limit).mean():.4f}" for limit in limits))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unseen", metavar="CORPORA", type=Path, help="folder with saf/ and scientsbank/")
    if folder := parser.parse_args().unseen:
        show_unseen(folder)
    else:
        write()


def write() -> None:
    """Train on all and write the weights."""
    rows = cases(whole=False)
    rows += joined(rows)
    weights = trained(*matrix(rows), rows)
    packed = np.clip(np.rint(weights * UNIT), -127, 127).astype(np.int8)
    data = {
        "source": "tests/data/conditions/train_classifier.py",
        "least": {code: round(LEAST[code] * UNIT * ONE) for code in CODES},
        "beside_phrase": round((LEAST["A"] - BESIDE_PHRASE) * UNIT * ONE),
        "weights": b85encode(zlib.compress(packed.tobytes(), 9)).decode(),
    }
    Path(response_classifier.__file__).with_name("response_classifier.json").write_text(
        json.dumps(data, indent=1) + "\n", "ascii"
    )


if __name__ == "__main__":
    main()
