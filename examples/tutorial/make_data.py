"""Write the tutorial's data: made-up answers to three questions, with levels that are known by construction.

    python examples/tutorial/make_data.py FOLDER

An answer's true level is the number of the question's two ideas that it holds. `labelled.csv` has 200 answers to each
question: `level` is what a first person gave, `second` what a second person gave to a third of them; each person is one
level off in one answer of twelve. `responses.csv` has 100 answers to each question by other students, and
`truth.csv` their true levels, which a script gives in the place of people. `later.csv` and `later-truth.csv` are of
others again, whom nobody reads.
"""

from __future__ import annotations

import csv
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STUDENTS, NEW_STUDENTS = 200, 100
MISREAD, SECOND = 1 / 12, 1 / 3
"""Share of levels that a person gives one too high or too low, and of answers that a second person reads."""
NO_ANSWERS = ("", "idk", "I don't know.", "no idea", "???", "asdfghjkl", "dont know sorry", "-")
OPENINGS = ("", "", "", "I think ", "i think that ", "Well, ", "So ", "In my opinion ", "Maybe ", "My answer is that ")
JOINTS = (". ", ", and ", " and ", " so ", ". Also ", ", ", ". Then ", "; ")


@dataclass(frozen=True)
class Question:
    """A task. ideas: two lists of wordings, of which each one right is worth a level; other: what is worth nothing."""

    task: str
    text: str
    reference: str
    ideas: tuple[tuple[str, ...], tuple[str, ...]]
    other: tuple[str, ...]


QUESTIONS = (
    Question(
        "puddle",
        "A puddle is gone after a sunny day. What happened to the water, and why?",
        "The water evaporated: it became a gas and went into the air. The heat of the sun made it evaporate.",
        (
            (
                "the water evaporated",
                "it evaporates",
                "the water turned into water vapour",
                "it became a gas",
                "the liquid changed to gas",
                "the water goes up into the air as vapor",
                "it turned into an invisible gas",
                "the puddle evaporated into the air",
                "water particles left the puddle and went into the air",
                "there was evaporation",
                "the water became part of the air",
                "it went from liquid to gaseous",
            ),
            (
                "the sun heated it",
                "the heat of the sun did it",
                "the sun gave the water energy",
                "the sunshine made it hot",
                "it got warm from the sun",
                "because of the warm sunlight",
                "the sun warmed up the water",
                "the temperature rose in the sun",
                "the sun's heat gives the particles energy",
                "the sun rays warmed the puddle",
                "it is hot when the sun shines on it",
                "the energy came from the sun",
            ),
        ),
        (
            "the water sank into the ground",
            "a dog drank it",
            "it went down the drain",
            "somebody swept it away",
            "cars drove through it",
            "the water disappeared",
            "it is just gone",
            "the street soaked it up",
            "the puddle was small",
            "there was no more rain",
            "it flowed to the river",
            "the wind pushed it to the side",
        ),
    ),
    Question(
        "circuit",
        "A bulb is connected to a battery by two wires. Why does it go out when one wire is cut?",
        "The circuit is not closed any more, so no current flows through the bulb.",
        (
            (
                "the circuit is open",
                "the circuit is broken",
                "the loop is not closed anymore",
                "there is a gap in the circuit",
                "it is not a complete circuit",
                "the path is interrupted",
                "the circle has to be closed and it isnt",
                "the circuit isn't complete",
                "the way back to the battery is missing",
                "the connection in the loop is cut through",
                "you need a closed circuit",
                "the ring is open now",
            ),
            (
                "no current can flow",
                "the current stops",
                "electricity cant flow through the bulb",
                "no electrons move through it",
                "the electrons can't get past",
                "the electric current is zero",
                "there is no flow of charge",
                "no electricity gets to the bulb",
                "electrons stop flowing",
                "the current cannot go through the lamp",
                "charges don't move any more",
                "the bulb gets no current",
            ),
        ),
        (
            "the battery is empty",
            "the bulb is broken",
            "the wire was too long",
            "the power leaks out of the wire",
            "the bulb is old",
            "the battery got too hot",
            "the glass of the bulb cracked",
            "it is dangerous to cut wires",
            "the light is used up",
            "copper is a metal",
            "the switch was pressed",
            "one wire is weaker than two",
        ),
    ),
    Question(
        "owls",
        "Owls eat mice, and mice eat seeds. What happens to the owls and the seeds if all mice die?",
        "The owls have less food, so there will be fewer owls. No mice eat the seeds, so there are more seeds.",
        (
            (
                "the owls starve",
                "the owls have nothing to eat",
                "there will be less owls",
                "the owl population goes down",
                "owls die of hunger",
                "the owls lose their food",
                "many owls would die",
                "the number of owls gets smaller",
                "the owls go hungry",
                "owls can't find food anymore",
                "fewer owls survive",
                "the owls have to leave to find other food",
            ),
            (
                "there are more seeds",
                "nobody eats the seeds",
                "the seeds increase",
                "seeds are left over",
                "the number of seeds goes up",
                "more seeds stay on the ground",
                "the seeds don't get eaten",
                "more plants grow from the seeds",
                "the amount of seeds gets bigger",
                "the seeds will be a lot more",
                "no mouse eats the seeds now",
                "the seeds can spread more",
            ),
        ),
        (
            "nothing changes",
            "the mice were sick",
            "owls hunt at night",
            "the owls are happy",
            "a cat killed the mice",
            "the forest is big",
            "owls can turn their heads",
            "mice are small animals",
            "the owls get stronger",
            "the mice come back later",
            "it is bad for nature",
            "animals depend on each other",
        ),
    ),
)


def slip(text: str, draw: random.Random) -> str:
    """Spell and type as students do: a letter lost or exchanged, no capital, no stop."""
    if draw.random() < 0.35:
        at = draw.randrange(1, len(text) - 2)
        text = draw.choice((text[:at] + text[at + 1 :], text[:at] + text[at + 1] + text[at] + text[at + 2 :]))
    if draw.random() < 0.6:
        text = text[0].upper() + text[1:]
    return text + draw.choice((".", ".", "", "", "!"))


def answer(question: Question, ability: float, draw: random.Random) -> tuple[str, int]:
    """Return an answer and its true level, which follows the student's ability (0 to 1)."""
    held = [draw.choice(wordings) for wordings in question.ideas if draw.random() < ability]
    parts = held + draw.sample(question.other, 0 if len(held) == 2 and draw.random() < 0.6 else draw.choice((0, 1, 2)))
    parts = parts or [draw.choice(question.other)]
    draw.shuffle(parts)
    text = draw.choice(OPENINGS) + parts[0]
    for part in parts[1:]:
        text += draw.choice(JOINTS) + part
    return slip(text, draw), len(held)


def read(level: int, draw: random.Random) -> int:
    """Return the level that a person gives an answer of a true level."""
    if draw.random() >= MISREAD:
        return level
    return draw.choice([near for near in (level - 1, level + 1) if 0 <= near <= 2])


def labelled(draw: random.Random) -> list[dict[str, Any]]:
    """Return the answers of the first students, read by people."""
    rows = []
    for student in range(STUDENTS):
        ability = draw.betavariate(1.1, 0.9)
        for question in QUESTIONS:
            text, level = answer(question, ability, draw)
            second = read(level, draw) if draw.random() < SECOND else ""
            row = {"id": f"{question.task}-{student:03}", "task": question.task, "student": f"s{student:03}"}
            rows.append(row | {"text": text, "level": read(level, draw), "second": second})
    return rows


def new_answers(first: int, draw: random.Random) -> list[dict[str, Any]]:
    """Return the answers of so many students from a number on, with their true levels; some are no answers at all."""
    rows = []
    for student in range(first, first + NEW_STUDENTS):
        ability = draw.betavariate(1.1, 0.9)
        for question in QUESTIONS:
            text, level = answer(question, ability, draw)
            if draw.random() < 0.05:
                text, level = draw.choice(NO_ANSWERS), 0
            row = {"id": f"{question.task}-{student:03}", "task": question.task, "student": f"s{student:03}"}
            rows.append(row | {"text": text, "level": level})
    return rows


def write(path: Path, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [
        {"id": q.task, "levels": "0 1 2", "question": q.text, "reference": q.reference, "language": "en"}
        for q in QUESTIONS
    ]
    write(folder / "tasks.csv", tasks, ("id", "levels", "question", "reference", "language"))
    draw = random.Random(20261127)
    write(folder / "labelled.csv", labelled(draw), ("id", "task", "student", "text", "level", "second"))
    for first, responses, truth in (
        (STUDENTS, "responses.csv", "truth.csv"),
        (STUDENTS + NEW_STUDENTS, "later.csv", "later-truth.csv"),
    ):
        answers = new_answers(first, draw)
        write(folder / responses, answers, ("id", "task", "student", "text"))
        write(folder / truth, answers, ("id", "task", "level"))


if __name__ == "__main__":
    main()
