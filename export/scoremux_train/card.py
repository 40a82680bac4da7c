"""`card.md`: what a person should know of an adapter before using it."""

from __future__ import annotations

from collections import Counter

import numpy as np

from scoremux_assess.agreement.intervals import Figure, estimates
from scoremux_assess.agreement.ratings import Ratings
from scoremux_assess.agreement.statistics import BY_NAME
from scoremux_train.check import TaskCheck
from scoremux_train.recipe import Plan, Recipe
from scoremux_train.run import Fitted

_FEW = 10
STATISTICS = ("qwk", "exact", "adjacent", "smd")


def cross_validated(fitted: Fitted) -> dict[str, Figure]:
    """Return how well out-of-fold predictions agree with the human levels, by title; empty without folds."""
    if not len(fitted.predicted[0]):
        return {}
    human, machine = [row.level for row in fitted.rows], [int(np.argmax(p)) for p in fitted.predicted]
    chosen = [BY_NAME[name] for name in STATISTICS]
    found = estimates(chosen, Ratings.of(human, machine), np.zeros(len(human), np.int64), 1)
    return {s.title: found[s.name].at(0) for s in chosen}


def card(fitted: Fitted, found: TaskCheck, plan: Plan, backbone: str, used_start: bool) -> str:
    """Return the card's text, Markdown.

    Args:
        fitted: The trained task.
        found: What the data check found.
        plan: How it was trained.
        backbone: Its name.
        used_start: Whether training began from a shared start.
    """
    task, agreed = fitted.task, cross_validated(fitted)
    given = "the response alone" if task.input is None else task.input.model_dump_json(exclude_none=True)
    lines = [
        f"# {task.id}",
        "",
        task.question,
        "",
        "## Data",
        "",
        f"- {found.rows} responses with {found.rows - found.duplicates} different texts, each with a human's level.",
        f"- Responses by level: {_by_level(fitted)}.",
        *_humans(found),
        "",
        "## Training",
        "",
        f"- LoRA adapter and head on the frozen backbone {backbone}; sites {plan.sites}.",
        f"- The model sees {given}.",
        f"- Recipe: {_recipe(fitted.recipe)}.",
        f"- It began from {'a shared start trained over all tasks' if used_start else 'nothing'}; seed {plan.seed}.",
        "",
        "## Cross-validated agreement",
        "",
        *_agreement(agreed, found.rows, plan.folds),
        "",
        "## Known limits",
        "",
        *_limits(found),
    ]
    return "\n".join(lines) + "\n"


def _by_level(fitted: Fitted) -> str:
    counts = Counter(row.level for row in fitted.rows)
    return ", ".join(f"{points:g} points: {counts[level]}" for level, points in enumerate(fitted.task.levels))


def _humans(found: TaskCheck) -> list[str]:
    if not found.doubly:
        return ["- No response has a second human's level."]
    agree = f"QWK {found.human_qwk:.3f}, exact {found.human_exact:.3f}"
    return [f"- Agreement of two humans on the {found.doubly} responses that have both: {agree}."]


def _recipe(recipe: Recipe) -> str:
    return ", ".join(f"{name} {value}" for name, value in recipe.model_dump().items())


def _agreement(agreed: dict[str, Figure], rows: int, folds: int) -> list[str]:
    if not agreed:
        return ["No folds were trained, so nothing is known."]
    return [
        f"Each response was scored by an adapter that had not seen it ({folds} folds, equal texts together).",
        "",
        f"| of {rows} responses | value | 95 % interval |",
        "|---|---|---|",
        *(f"| {title} | {one.value:.3f} | {one.low:.3f} – {one.high:.3f} |" for title, one in agreed.items()),
    ]


def _limits(found: TaskCheck) -> list[str]:
    few = [str(level) for level, count in enumerate(found.levels) if 0 < count < _FEW]
    lines = [
        "- Scores of responses unlike those above (another population, another language, attempts to deceive) are not "
        "backed by these figures.",
        "- The level comes from the text alone. Drawings, formulas and attachments are not seen.",
    ]
    if found.without_rows:
        lines.append(
            f"- No response had level {', '.join(map(str, found.without_rows))}: such levels are never learned."
        )
    if few:
        lines.append(f"- Fewer than {_FEW} responses had level {', '.join(few)}: the figures say little about them.")
    if found.conflicts:
        lines.append(f"- {found.conflicts} texts have more than one human level.")
    return lines
