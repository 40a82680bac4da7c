"""Which texts are the same after folding, and which are near copies."""

import itertools
import random

import pytest

from load import made_up_rows
from scoremux_assess.labels.similar_texts import NEAR, fold, near_copies

BASE = "Chlorophyll absorbs red and blue light and reflects the green light, 2 times 3 is 6."


@pytest.mark.parametrize(
    "other",
    [BASE.upper(), BASE.replace(" and ", "  and\n"), BASE.rstrip("."), f"“{BASE}”", BASE.replace("light,", "light;"),
     f" {BASE}!"],
)  # fmt: skip
def test_fold_ignores_case_spaces_and_sentence_punctuation(other: str) -> None:
    assert fold(other) == fold(BASE)
    assert near_copies([other, BASE]) == [0, 0]


@pytest.mark.parametrize(
    ("text", "other"),
    [("6", "-6"), ("2.5", "25"), ("1,5", "15"), ("x - 5", "x 5"), ("2(3+4)", "23+4"), ("5!", "5"),
     ("5' tall", "5 tall"), ("x²", "x2"), ("50%", "50"), ("a<b", "a>b"),
     (BASE, BASE.replace("reflects", "does not reflect")), (BASE, BASE.replace("red and", "red or"))],
)  # fmt: skip
def test_fold_keeps_what_changes_an_answer(text: str, other: str) -> None:
    assert fold(text) != fold(other)


def share_of_trigrams(text: str, other: str) -> float:
    a, b = ({f" {folded} "[n : n + 3] for n in range(max(1, len(folded)))} for folded in map(fold, (text, other)))
    return len(a & b) / len(a | b)


def test_near_copies_are_those_of_the_share_of_trigrams() -> None:
    draw, texts = random.Random(18), ["", "a", "Photosynthesis.", BASE]
    for row in made_up_rows(["t"], 40, 18):
        words = str(row.text).split()
        texts += [" ".join(words), " ".join([*words[: draw.randint(0, len(words))], "not", *words[2:]])]
    group = list(range(len(texts)))
    for one, other in itertools.combinations(range(len(texts)), 2):
        if share_of_trigrams(texts[one], texts[other]) >= NEAR:
            joined = {group[one], group[other]}
            group = [min(joined) if place in joined else place for place in group]
    assert near_copies(texts) == group
    assert 10 < len(set(group)) < len(texts) - 10
