"""Which texts are the same after folding, and how alike others are."""

from __future__ import annotations

import random

import pytest

from load import made_up_rows
from scoremux_assess.agreement.similar_texts import fold, likeness

BASE = "Chlorophyll absorbs red and blue light and reflects the green light, 2 times 3 is 6."


@pytest.mark.parametrize(
    "other",
    [BASE.upper(), BASE.replace(" and ", "  and\n"), BASE.rstrip("."), f"“{BASE}”", BASE.replace("light,", "light;"),
     f" {BASE}!"],
)  # fmt: skip
def test_fold_ignores_case_spaces_and_sentence_punctuation(other: str) -> None:
    assert fold(other) == fold(BASE)
    assert likeness(other, BASE) == 1


@pytest.mark.parametrize(
    ("text", "other"),
    [("6", "-6"), ("2.5", "25"), ("1,5", "15"), ("x - 5", "x 5"), ("2(3+4)", "23+4"), ("5!", "5"),
     ("5' tall", "5 tall"), ("x²", "x2"), ("50%", "50"), ("a<b", "a>b"),
     (BASE, BASE.replace("reflects", "does not reflect")), (BASE, BASE.replace("red and", "red or"))],
)  # fmt: skip
def test_fold_keeps_what_changes_an_answer(text: str, other: str) -> None:
    assert fold(text) != fold(other)


def test_likeness_tells_changed_words_from_other_texts() -> None:
    draw = random.Random(18)
    texts = [text for row in made_up_rows(["t"], 400, 18) if len((text := str(row.text)).split()) >= 12]
    for text in texts:
        words = text.split()
        at = draw.randrange(len(words))
        assert likeness(text, " ".join([*words[:at], "not", *words[at:]])) > 0.7
    assert likeness("Photosynthesis.", "Green light is reflected.") < 0.1
    assert likeness("", "") == 1
    assert likeness("", "a") == 0
