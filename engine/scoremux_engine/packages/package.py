"""A task package: one version of one task on disk."""

from dataclasses import dataclass, replace
from pathlib import Path

from scoremux_client.errors import InputError
from scoremux_decide.apply import UNDECIDED, Decider
from scoremux_decide.decision import NEW_TASK
from scoremux_engine.errors import PackageError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.inputs import Layout
from scoremux_engine.model.tokens import Tokenizer
from scoremux_engine.packages.adapter_tables import Array, make_tables
from scoremux_engine.packages.package_files import CONFIG_JSON, DECISION_JSON, TASK_JSON, TENSORS, PackageFiles
from scoremux_engine.packages.task import Task
from scoremux_files.digests import digest_of, set_digest

LEAST_ROOM_TOKENS = 64
"""Tokens of a response that an input must leave room for."""

LEAST_PREFIX_TOKENS = 16
"""With fewer tokens in common, a prefix would save less than the micro-batches that it sets apart cost."""

LEAST_LABELS = 30
"""With fewer labelled rows to learn from, people get all responses to a task until it is calibrated."""


@dataclass(frozen=True)
class TaskPackage:
    """A checked package, with its tables in memory.

    Attributes:
        digest: The sha256 of the names and bytes of its files.
        tables: The adapter as the graph's inputs (see `make_tables`).
        outputs: Width of the head: the number of levels, or 1 for a value in points.
        prefix: Token ids that all its inputs begin with, whose keys and values are kept (see `prefix_of`).
    """

    task: Task
    digest: str
    tables: dict[str, Array]
    outputs: int
    decider: Decider = UNDECIDED
    prefix: tuple[int, ...] = ()

    @classmethod
    def read(cls, folder: Path, backbone: Backbone) -> "TaskPackage":
        """Read and check the package in a folder in full. Raises PackageError naming what is wrong."""
        return cls.check(PackageFiles(folder), backbone)

    @classmethod
    def check(cls, files: PackageFiles, backbone: Backbone) -> "TaskPackage":
        """Read and check a package in full. Raises PackageError naming what is wrong.

        The digest is of the bytes that were checked.
        """
        texts = {name: digest_of([files.read(name)]) for name in files.names if name != TENSORS}
        task, config, decider = files.task, files.config, UNDECIDED
        prefix = prefix_of(task, backbone)
        try:
            if task.layout is not None:  # else the tokenizer need not be read
                check_room(task.layout, backbone.tokenizer)
        except ValueError as error:
            raise PackageError(f"{files.path / TASK_JSON}: input: {error}") from error
        if DECISION_JSON in texts:
            data, path = files.read(DECISION_JSON), str(files.path / DECISION_JSON)
            width = backbone.spec.pooled_size
            try:
                decider = Decider.parse(data, path, task.question, task.reference, task.language, width)
            except InputError as error:
                raise PackageError(str(error)) from error
            if {*(decider.decision.traits or ())} != {*task.traits}:
                raise PackageError(f"{path}: its traits are not those of {task.id}: run `scoremux calibrate` again")
        labels = None if DECISION_JSON in texts else files.labels
        if task.untrained or (labels is not None and labels < LEAST_LABELS):
            decider = replace(decider, decision=replace(decider.decision, threshold=NEW_TASK))
        tables, outputs, tensors = make_tables(files.tensors, config, backbone, task.width)
        if task.traits and outputs != task.width:
            raise PackageError(f"{files.path}: the head has one output, and the traits have {task.width} levels")
        digest = set_digest({**texts, TENSORS: tensors})
        return cls(task, digest, tables, outputs, decider, prefix)


def check_room(layout: Layout, tokenizer: Tokenizer) -> None:
    """Raise ValueError where the text around a task's responses leaves no room, or its windows are too long."""
    windows = layout.windows
    limit, what, least = tokenizer.max_tokens, "the backbone", LEAST_ROOM_TOKENS
    if windows is not None:
        if windows.tokens > limit:
            raise ValueError(f"windows of {windows.tokens} tokens are longer than the {limit} that the backbone takes")
        limit, what, least = windows.tokens, "a window", max(least, 2 * windows.overlap)
    room = tokenizer.room(layout.render(""))
    if room < least:
        raise ValueError(
            f"the text around the response has {limit - room} of the {limit} tokens that {what} takes; leave {least} "
            "to the response"
        )


def prefix_of(task: Task, backbone: Backbone) -> tuple[int, ...]:
    """Return the token ids that all responses to a task begin with, if the backbone reads prefixes and they are many.

    A function of the task and the backbone alone. A task with windows has no prefix.
    """
    if task.layout is None or task.layout.windows or not backbone.spec.prefix_layers:
        return ()
    prefix = backbone.tokenizer.prefix(task.render)
    return prefix if len(prefix) >= LEAST_PREFIX_TOKENS else ()


def adapter_digest(files: PackageFiles) -> str:
    """Return the sha256 of all that decides probabilities: the adapter, and the task's text around responses.

    A calibration changes it as little as another description of the task does. Raises PackageError as `blocks`.
    """
    digests = {name: digest_of(files.blocks(name)) for name in (CONFIG_JSON, TENSORS)}
    task = files.task
    around = repr(task.render("\0"))
    if task.layout is not None and task.layout.windows:
        around += repr(task.layout.windows)
    return set_digest({**digests, TASK_JSON: digest_of([around.encode()])})
