"""Rows as the model sees them and the opened backbone: all that training needs."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoremux_engine.model.backbone import HeadLinear, Site
from scoremux_engine.model.tokens import Tokenizer, Tokens
from scoremux_engine.packages.package import check_room
from scoremux_engine.packages.task import Task
from scoremux_evidence.rows.similar_texts import related
from scoremux_evidence.rows.table import Rows
from scoremux_evidence.sampling import derived_key, generator
from scoremux_export.opening.base import weights_digest
from scoremux_export.opening.classifier import Classifier
from scoremux_export.opening.openable import Opening
from scoremux_export.opening.opened import OpenedModel
from scoremux_files.rows.readers import same_text
from scoremux_train.data import Data, TrainingRows
from scoremux_train.errors import DataError
from scoremux_train.recipe import Plan, Recipe
from scoremux_train.reference_comparison import ReferenceComparison, made_up, normalised
from scoremux_train.training.batches import Example
from scoremux_train.training.table_layout import TableLayout
from scoremux_train.training.trainer import Trainer

MOST_CUT, WINDOW_TOKENS = 0.01, 256
"""The share of texts above which they are read in windows, and the tokens of a window."""

_FEW_TOKENS, _MOST_WINDOWS = 64, 64
_EPOCHS = 5 / 8
"""The share of the recipe's epochs that taught adapters take: made-up answers are learned, too."""

_SHARPER = 2
"""Power of the probabilities that adapters learn, since they are less sure than what they learn."""

WHOLE = -1
"""Stands for the fold of the final table, which is trained on all rows."""


@dataclass(frozen=True)
class PreparedTask:
    """A task's rows to train on.

    Attributes:
        examples: The rows as the model sees them.
        groups: The number of each row's group; rows of one group are held out together.
        fold_of: The fold in which each row is held out; a number of none of them without folds.
        traits: Of an item with traits, in its order: the rows of each, and their places among those of the item.
        cut: How many rows are longer than the backbone reads at once.
        folder: The adapter's folder, empty for the task's own.
        unlabelled: Answers that are learned beside the rows, with the comparison's probabilities; None for none.
        taught: These answers as the model sees them, by the fold whose labels the comparison was not corrected by.
    """

    task: Task
    recipe: Recipe
    rows: Rows
    examples: Sequence[Example]
    groups: Sequence[int]
    fold_of: Sequence[int]
    traits: "Sequence[tuple[PreparedTask, Sequence[int]]]" = ()
    cut: int = 0
    folder: str = ""
    unlabelled: Rows | None = None
    taught: Mapping[int, Sequence[Example]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Names its tables: a task may have a plain and a taught adapter in a run."""
        return self.task.id if self.unlabelled is None else f"{self.task.id}/taught"

    @property
    def levels(self) -> int:
        """The width of the head."""
        return self.task.width

    @property
    def human(self) -> list[int]:
        """The level that a human gave each row; of an item, the mean of its traits' levels, to deal rows by."""
        if self.traits:
            return [_mean_level(example.levels) for example in self.examples]
        levels: list[int] = self.rows.level.astype(int).tolist()
        return levels

    @property
    def epoch_tokens(self) -> int:
        """The tokens that an epoch reads, windows included."""
        examples = [*self.examples, *self.taught.get(WHOLE, ())]
        return sum(len(part.tokens) for example in examples for part in example.parts)


@dataclass(frozen=True)
class Prepared:
    """All that training needs.

    Attributes:
        folds: The folds; each task gets a table that is trained without it. `WHOLE` stands for the final table.
        fresh: Returns a table before training for a rank, a number of levels, a seed and the levels of traits.
        fingerprint: The digest of everything that decides the tables.
        weights: The digest of the backbone's weights.
    """

    plan: Plan
    tasks: Sequence[PreparedTask]
    folds: Sequence[int]
    trainer: Trainer
    fresh: Callable[[int, int, int, Sequence[int]], Tensor]
    fingerprint: str
    weights: str

    @property
    def layout(self) -> TableLayout:
        return self.trainer.layout


def prepare(
    data: Data,
    chosen: Sequence[str],
    plan: Plan,
    source: str,
    device: str = "cpu",
    cores: int = 0,
    comparisons: Mapping[str, ReferenceComparison] | None = None,
) -> Prepared:
    """Turn rows into what the model sees, and open the backbone.

    Args:
        chosen: The ids of the tasks to train on labelled rows alone.
        source: The backbone's folder or hub id.
        cores: The number of cores to use; 0 uses all.
        comparisons: By the ids of the tasks to train on their unlabelled answers, too.

    Raises:
        TrainError: A task's input leaves no room to a response or lacks a text, or the recipe is wrong.
    """
    torch.manual_seed(plan.seed)  # for Linears of the head that transformers starts at random
    backbone = _Backbone.open(source, plan)
    tasks = [
        _prepare_item(data, name, plan, backbone)
        if name in data.items
        else _prepare_task(data.tasks[name], data.training[name], plan, backbone)
        for name in chosen
    ]
    tasks += [_prepare_taught(data, name, plan, backbone, of_task) for name, of_task in (comparisons or {}).items()]
    levels = max(task.levels for task in tasks)
    layout = TableLayout(backbone.sites, backbone.head, plan.recipe.rank, levels)
    model = backbone.classifier.model
    linears = {linear.name: model.get_submodule(linear.name) for linear in backbone.head}  # which opening replaces
    fresh = partial(layout.start, linears, model.config)
    digest = _fingerprint(plan, tasks, model, device)
    trainer = _open_trainer(backbone, layout, device, cores)
    return Prepared(plan, tasks, [*range(plan.folds), WHOLE], trainer, fresh, digest, backbone.weights)


@dataclass(frozen=True)
class _Backbone:
    """A backbone before it is opened, with its tokenizer, the digest of its weights, and the parts to open."""

    classifier: Classifier
    tokenizer: Tokenizer
    weights: str
    sites: tuple[Site, ...]
    head: tuple[HeadLinear, ...]

    @classmethod
    def open(cls, source: str, plan: Plan) -> "_Backbone":
        classifier = Classifier.open(source)
        sites, head = Opening(plan.sites, plan.modules_to_save).describe(classifier.model)
        classifier.refuse_random(head)
        tokenizer = Tokenizer.of(classifier.words(), classifier.max_tokens)
        return cls(classifier, tokenizer, weights_digest(source), sites, head)


def _prepare_item(data: Data, name: str, plan: Plan, backbone: _Backbone) -> PreparedTask:
    """Prepare an item with traits: its responses are those that have a level of a trait.

    Raises DataError where rows of one response have different texts.
    """
    item = data.items[name]
    parts = [data.training[own.id] for own, *_ in item.slices.values()]
    joined = Rows.joined([part.rows for part in parts])
    place_of: dict[tuple[str, str], int] = {}
    for place, (_, row, administration) in enumerate(joined.response_keys()):
        first = place_of.setdefault((row, administration), place)
        if same_text(joined.text[first]) != same_text(joined.text[place]):
            raise DataError(
                f"item {name}: {joined.place(first)} and {joined.place(place)} have different texts for id {row[:80]!r}"
            )
    rows = joined.where([place_of[key] for key in sorted(place_of)])
    numbers = {key: number for number, key in enumerate(sorted(place_of))}
    levels = [[-1] * len(parts) for _ in numbers]
    places = [[numbers[key[1:]] for key in part.rows.response_keys()] for part in parts]
    for trait, (part, of_trait) in enumerate(zip(parts, places, strict=True)):
        for place, level in zip(of_trait, part.rows.level.astype(int).tolist(), strict=True):
            levels[place][trait] = level
    groups = related([text or "" for text in rows.text], rows.student.code)
    prepared = _prepare_task(item, TrainingRows(rows, groups), plan, backbone, levels)
    traits = []
    for (own, *_), part, of_trait in zip(item.slices.values(), parts, places, strict=True):
        fold_of = [prepared.fold_of[place] for place in of_trait]
        traits.append((PreparedTask(own, prepared.recipe, part.rows, [], part.groups, fold_of, folder=name), of_trait))
    return replace(prepared, traits=traits)


def _prepare_taught(
    data: Data, name: str, plan: Plan, backbone: _Backbone, comparison: ReferenceComparison
) -> PreparedTask:
    """Prepare a task with its unlabelled answers, and give each what the comparison and the labels say of its level.

    So are answers that nobody gave: an adapter learns more of the comparison from more wordings. No label of a fold has
    a part in what the fold's table learns.
    """
    task, unlabelled = data.tasks[name], data.unlabelled[name]
    new = made_up(task.reference, unlabelled.text, generator(plan.seed, name, "made up"))
    more = [*dict.fromkeys([*unlabelled.text, *new])]
    prepared = _prepare_task(task, data.training[name], plan, backbone, more=more)
    labelled = len(prepared.rows)
    compared = comparison.compare(task, [*prepared.rows.text, *more])
    taught = {}
    for fold in sorted({WHOLE, *prepared.fold_of}):
        places = [place for place, held_out_in in enumerate(prepared.fold_of) if held_out_in != fold]
        likely = compared.corrected(places, [prepared.human[place] for place in places])[labelled:]
        shares = normalised(likely**_SHARPER)
        shares[more.index(task.reference)] = np.eye(task.width)[-1]
        taught[fold] = [
            replace(example, level=int(np.argmax(own)), shares=tuple(own.tolist()))
            for example, own in zip(prepared.examples[labelled:], shares, strict=True)
        ]
    recipe = prepared.recipe.model_copy(update={"epochs": math.ceil(prepared.recipe.epochs * _EPOCHS)})
    examples = prepared.examples[:labelled]
    return replace(prepared, recipe=recipe, examples=examples, unlabelled=unlabelled, taught=taught)


def _prepare_task(
    task: Task,
    training: TrainingRows,
    plan: Plan,
    backbone: _Backbone,
    of_traits: Sequence[Sequence[int]] = (),
    more: Sequence[str] = (),
) -> PreparedTask:
    """Assign the rows of a task to folds, and turn them into what the model sees.

    Args:
        of_traits: The levels of each row's traits, where the task is an item.
        more: Other answers, whose examples come after those of the rows.

    Raises:
        DataError: The input leaves no room to responses.
    """
    rows, groups = training
    tokenizer, classifier = backbone.tokenizer, backbone.classifier
    levels = [_mean_level(row) for row in of_traits] or rows.level.astype(int).tolist()
    fold_of = [WHOLE - 1] * len(rows)
    if plan.folds:
        fold_of = assign(levels, groups, plan.folds, plan.seed, task.id, "folds")
    recipe = plan.recipe
    times = Counter(rows.id)
    examples = []
    try:
        task, tokenized, cut = _tokenized(task, [*(text or "" for text in rows.text), *more], tokenizer, recipe)
    except ValueError as error:
        raise DataError(f"task {task.id}: input: {error}") from error

    def example(key: int, level: int, traits: Sequence[int], tokens: Tokens) -> Example:
        ids = tokens.ids or [classifier.pad_id]  # as in serving
        types = (tokens.types or [0]) if classifier.token_types else ()
        windows = [example(derived_key("window", key, n), 0, (), one) for n, one in enumerate(tokens.windows)]
        return Example(key, level, ids, types, traits, windows, tokens.adds)

    kind = ["taught"] if more else []  # the same rows may be those of a plain adapter, too
    keys = [
        [name, *([administration] if times[name] > 1 else []), *kind]
        for _, name, administration in rows.response_keys()
    ]
    keys += [["unlabelled", text] for text in more]
    levels += [0] * len(more)
    marks = of_traits or [()] * len(keys)
    for key, level, traits, tokens in zip(keys, levels, marks, tokenized, strict=True):
        examples.append(example(derived_key(task.id, *key), level, traits, tokens))
    return PreparedTask(task, recipe, rows, examples, groups, fold_of, cut=cut)


def _tokenized(
    task: Task, texts: Sequence[str], tokenizer: Tokenizer, recipe: Recipe
) -> tuple[Task, Sequence[Tokens], int]:
    """Return the task, the tokens of its texts, and how many are longer than the backbone reads at once.

    The task gets windows where more than 1 in 100 texts would be cut, unless it has some or the recipe has none; they
    hold twice the longest text. Raises ValueError where the task's text leaves no room to responses.
    """
    if task.layout is not None:
        check_room(task.layout, tokenizer)
    tokens = tokenizer.encode([task.render(text) for text in texts])
    if task.layout is not None and task.layout.windows:
        return task, tokens, sum(len(one.ids) > tokenizer.max_tokens for one in tokens)
    cut = sum(one.truncated for one in tokens)
    if not recipe.windows or cut <= MOST_CUT * len(texts):
        return task, tokens, cut
    around = tokenizer.max_tokens - tokenizer.room(task.render(""))
    size = min(tokenizer.max_tokens, WINDOW_TOKENS + (around if around > _FEW_TOKENS else 0))
    for most in (_MOST_WINDOWS, 0):
        fields = task.model_dump(exclude_defaults=True)
        windows = {"tokens": size, "most": most or min(_MOST_WINDOWS, 2 * max(len(one.windows) for one in tokens))}
        fields["input"] = {**fields.get("input", {}), "windows": windows}
        task = Task(**fields)
        if task.layout is not None:
            check_room(task.layout, tokenizer)
        tokens = tokenizer.encode([task.render(text) for text in texts])
    return task, tokens, cut


def _mean_level(levels: Sequence[int]) -> int:
    """Return the mean of the levels of traits that are there, rounded."""
    given = [level for level in levels if level >= 0]
    return round(sum(given) / len(given))


def assign(levels: Sequence[int], groups: Sequence[int], folds: int, *seed: object) -> list[int]:
    """Return the fold of each row, 0 … folds − 1, drawn from `seed` alone, such that every level is in each.

    Groups are dealt in random order, those of rare levels first, each to the fold with the fewest rows of its level.

    Args:
        groups: The number of each row's group (`TrainingRows`); rows of one group are in one fold.
    """
    members = defaultdict[int, list[int]](list)
    for row, group in enumerate(groups):
        members[group].append(row)
    in_order = list(members.values())
    order = generator(*seed).permutation(len(in_order))
    dealt = [in_order[place] for place in order]
    level_of = [Counter(levels[row] for row in rows).most_common(1)[0][0] for rows in dealt]
    common = Counter(levels)
    pairs = sorted(zip(dealt, level_of, strict=True), key=lambda pair: (common[pair[1]], -len(pair[0])))
    counts, sizes = Counter[tuple[int, int]](), Counter[int]()
    fold_of = [0] * len(levels)
    for rows, level in pairs:
        fold = min(range(folds), key=lambda f: (counts[f, level], sizes[f]))
        counts[fold, level] += len(rows)
        sizes[fold] += len(rows)
        for row in rows:
            fold_of[row] = fold
    return fold_of


def _open_trainer(backbone: _Backbone, layout: TableLayout, device: str, cores: int) -> Trainer:
    """Open the backbone's sites and head, and return a trainer of tables in it."""
    classifier = backbone.classifier
    opened = OpenedModel(classifier.model, backbone.sites, backbone.head, classifier.pad_id)
    return Trainer(opened, layout, classifier.pad_id, device, cores=cores)


def _fingerprint(plan: Plan, tasks: Sequence[PreparedTask], model: Any, device: str) -> str:
    """Return a digest of all that decides the tables."""
    digest = hashlib.sha256(plan.model_dump_json().encode())
    for task in tasks:
        described, ids = task.task.model_dump_json(), task.rows.id.tolist()
        learned = (described, ids, task.human, task.examples, task.groups, task.fold_of, task.taught)
        digest.update(repr(learned).encode())
    for name, parameter in sorted(model.state_dict().items()):
        digest.update(name.encode() + np.ascontiguousarray(parameter.cpu().numpy()).tobytes())
    digest.update(device.partition(":")[0].encode())
    return digest.hexdigest()
