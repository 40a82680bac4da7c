"""Which rows a table learns: a task's own, without those of a fold; or, for a shared start, those of all tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scoremux_train.recipe import Plan, Recipe
from scoremux_train.training.adapter_files import START
from scoremux_train.training.batches import TrainingSet
from scoremux_train.training.folds import assign
from scoremux_train.training.preparation import PreparedTask
from scoremux_train.training.table_layout import START_OUTPUTS

QUARTERS = (1, 2, 4)
"""How many quarters of the rows outside of a fold the tables of a learning curve are trained on."""


def training_set(plan: Plan, task: PreparedTask, fold: int, quarters: int) -> TrainingSet:
    """Return what a task's table is trained on that never sees the rows of `fold`, or so many quarters of it."""
    name, places = _table_name(task, fold, quarters), _places(plan, task, fold, quarters)
    held: list[int] = []
    if task.recipe.patience:
        levels, groups = ([column[place] for place in places] for column in (task.human, task.groups))
        parts = assign(levels, groups, round(1 / task.recipe.validation), plan.seed, name, "validation")
        held = [place for place, part in zip(places, parts, strict=True) if part == 0]
        places = [place for place, part in zip(places, parts, strict=True) if part != 0]
    kept, held_back = ([task.examples[place] for place in part] for part in (places, held))
    return TrainingSet(name, task.levels, task.recipe, kept, held_back, plan.seed)


def start_set(plan: Plan, tasks: Sequence[PreparedTask], fold: int, quarters: int) -> TrainingSet:
    """Return what the start of a fold's tables is trained on: what these are trained on."""
    rows = [
        replace(task.examples[place], scale=task.task.levels)
        for task in tasks
        for place in _places(plan, task, fold, quarters)
    ]
    return TrainingSet(f"{START}/{fold}/{quarters}", START_OUTPUTS, start_recipe(plan), rows, seed=plan.seed)


def start_recipe(plan: Plan) -> Recipe:
    shared = plan.shared
    changes = {"epochs": shared.epochs, "batch": shared.batch, "lr": shared.lr, "head_lr": shared.lr, "patience": 0}
    return plan.recipe.model_copy(update=changes)


def _places(plan: Plan, task: PreparedTask, fold: int, quarters: int) -> list[int]:
    """Return the places of the rows that a table is trained on that never sees those of `fold`."""
    places = task.without(fold)
    if quarters == QUARTERS[-1]:
        return places
    levels, groups = ([column[place] for place in places] for column in (task.human, task.groups))
    parts = assign(levels, groups, QUARTERS[-1], plan.seed, _table_name(task, fold, QUARTERS[-1]), "curve")
    return [place for place, part in zip(places, parts, strict=True) if part < quarters]


def _table_name(task: PreparedTask, fold: int, quarters: int) -> str:
    return f"{task.task.id}/{fold}" if quarters == QUARTERS[-1] else f"{task.task.id}/{fold}/{quarters}"
