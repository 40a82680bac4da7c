"""Write en.jsonl and de.jsonl: responses whose condition code is known, for the figures of the rules that find codes.

    python tests/data/conditions/make_cases.py

Most responses are written by hand (en.txt, de.txt, foreign.txt). The rest are combinations, copies with changes, blank
characters and shuffled words, drawn with one seed. The author did not see the rules.
"""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
BLANKS = ["", " ", "\n", "\t", "\u00a0", "\u200b", "\u3000", "\r\n", "\ufeff", "\u2003"]
OPENINGS = {"en": ["the question is ", "I think ", "um "], "de": ["die Frage ist ", "ich glaube ", "also "]}
ARTICLES = {"en": {"the", "a", "an"}, "de": {"der", "die", "das", "dem", "den", "des", "ein", "eine", "einem", "einen"}}
COMBINATIONS = {"R": 60, "H": 40, "A": 70, "P": 48, "U": 30, "I": 80}
Line = tuple[str, str, str]  # task, text, other codes


def sections(path: Path) -> dict[str, list[Line]]:
    """The lines of a file by section: each with its task, its text and the codes that are right as well."""
    lines: dict[str, list[Line]] = defaultdict(list)
    section = task = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"\[([A-Z]+(?: [ab@])?|[a-z]{2})\]", line):
            section, task = match[1], ""
        elif match := re.fullmatch(r"@([a-z]+|\*)", line):
            task = match[1].strip("*")
        elif line and not line.startswith("# ") and section:
            text, _, also = re.fullmatch(r"(.*?)( //([A-Z]+))?", line).groups()  # type: ignore[union-attr]
            lines[section].append((task, text, also or ""))
    return lines


def misspelt(text: str, draw: random.Random) -> str:
    """The text with two neighbouring letters exchanged in two of its longer words."""
    words = text.split(" ")
    for index in draw.sample([i for i, word in enumerate(words) if len(word) > 3], 2):
        word = words[index]
        words[index] = word[0] + word[2] + word[1] + word[3:]
    return " ".join(words)


def copies(task: str, question: str, reference: str, language: str, draw: random.Random) -> Iterator[Line]:
    """Question and reference, copied with the changes that students make."""
    bare = re.sub(r"[?.!,:]", "", question).lower()
    words = question.split(" ")
    yield task, question, ""
    yield task, bare, ""
    yield task, " ".join(words[: round(0.75 * len(words))]), ""
    yield task, misspelt(question, draw), ""
    yield task, " ".join(word for word in words if word.lower() not in ARTICLES[language]), ""
    yield task, draw.choice(OPENINGS[language]) + bare, ""
    yield task, reference, ""
    yield task, misspelt(re.sub(r"[.,]", "", reference).lower(), draw), ""


def shuffled(task: str, question: str, draw: random.Random) -> Iterator[Line]:
    """Words of the question in an order that says nothing."""
    words = re.sub(r"[?.!,:]", "", question).lower().split()
    for _ in range(3):
        yield task, " ".join(draw.sample(words, min(len(words), draw.randint(6, 10)))), ""


def cases(language: str, texts: dict[str, tuple[str, str]], draw: random.Random) -> Iterator[tuple[str, Line]]:
    """Every code of one language with its lines; the code of honest answers is empty."""
    written = sections(HERE / f"{language}.txt")
    for code in "BIRHAPUC":
        yield from ((code, line) for line in written[code])
    yield from (("", line) for line in written["OK"])
    for code, most in COMBINATIONS.items():
        ends = written.get(f"{code} b") or [
            (task, re.sub("^the ", "", text), also) for task, text, also in written["I @"]
        ]
        space = " " if code == "I" else ""
        pairs = [(task, a + space + b, also) for _, a, _ in written[f"{code} a"] for task, b, also in ends]
        yield from ((code, line) for line in draw.sample(pairs, min(most, len(pairs))))
    yield from (("I", line) for line in written["I @"])
    blanks = {"".join(draw.choices(BLANKS, k=draw.randint(1, 6))) for _ in range(70)} | {""}
    yield from (("B", ("", blank, "")) for blank in sorted(blanks))
    for foreign, lines in sections(HERE / "foreign.txt").items():
        if foreign != language:
            yield from (("L", line) for line in lines)
    for task, (question, reference) in texts.items():
        yield from (("C", line) for line in copies(task, question, reference, language, draw))
        yield from (("U", line) for line in shuffled(task, question, draw))


def main() -> None:
    tasks = [json.loads(line) for line in (HERE / "tasks.jsonl").read_text(encoding="utf-8").splitlines()]
    for language in ("en", "de"):
        draw = random.Random(f"conditions {language}")
        texts: dict[str, tuple[str, str]] = {task["id"]: tuple(task[language]) for task in tasks}
        rows: dict[tuple[str, str, str], dict[str, object]] = {}
        for code, (task, text, also) in cases(language, texts, draw):
            question, reference = texts[task or draw.choice(list(texts))]
            row: dict[str, object] = {"code": code, "language": language, "question": question, "reference": reference}
            row |= {"text": text} | ({"also": list(also)} if also else {})
            if code == "I":
                row["least_words"] = len(text.split()) + draw.randint(1, 3)
            rows.setdefault((code, task, text), row)
        order = sorted(rows.values(), key=lambda row: (row["code"], draw.random()))
        with (HERE / f"{language}.jsonl").open("w", encoding="utf-8") as file:
            for index, row in enumerate(order):
                line = {"split": "held_out" if index % 2 else "development"} | row
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
