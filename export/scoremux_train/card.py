"""`card.md` of an adapter: the facts that a person should know before using it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from scoremux_engine.packages.task import Task
from scoremux_evidence.figures.estimates import rounded
from scoremux_evidence.show.words import shown
from scoremux_train.check import TaskCheck
from scoremux_train.cross_validated import CrossValidated, OutOfFold
from scoremux_train.recipe import Plan
from scoremux_train.run import TrainedTask
from scoremux_train.training.preparation import WHOLE

_FEW = 10
"""With fewer responses of a level, its card says that the figures tell little about it."""


def card(task: TrainedTask, checks: Mapping[str, TaskCheck], plan: Plan, out_of_fold: OutOfFold) -> str:
    """Return `card.md`: the facts that a person should know of an adapter before using it.

    Args:
        checks: The result of the data check, by task id.
        out_of_fold: The figures of all tasks of the run.
    """
    described = task.prepared.task
    training = f"## Training\n\n{_training(task, plan)}\n"
    if not task.prepared.traits:
        text = _sections(described, checks[described.id], plan, out_of_fold, f"{training}\n")
    else:
        own = [trait.prepared.task for trait in task.by_trait()]
        parts = [f"## {one.id}\n\n{_sections(one, checks[one.id], plan, out_of_fold)}" for one in own]
        text = "\n".join([training, *(part.replace("\n## ", "\n### ") for part in parts)])
    return f"# {described.id}\n\n{described.question}\n\n{text}"


def _sections(described: Task, check: TaskCheck, plan: Plan, out_of_fold: OutOfFold, training: str = "") -> str:
    return f"""\
## Data

{_data(described.levels, check)}

{training}## Cross-validated agreement

{_agreement(out_of_fold.of_task[described.id], plan.folds)}
## Known limits

{_limits(check)}
"""


def _data(points: Sequence[float], check: TaskCheck) -> str:
    counts = ", ".join(f"{value:g} points: {count}" for value, count in zip(points, check.levels, strict=True))
    humans = "No response has a second human's level."
    if check.doubly:
        qwk = "undefined" if check.human_qwk is None else rounded(check.human_qwk, 3)
        agree = f"QWK {qwk}, exact {check.human_exact:.3f}"
        humans = f"Agreement of two humans on the {check.doubly} responses that have both: {agree}."
    return f"""\
- {check.rows} responses with {check.rows - check.duplicates} different texts, each with a human's level.
- Responses by level: {counts}.
- {humans}"""


def _training(task: TrainedTask, plan: Plan) -> str:
    model_input, recipe = task.prepared.task.input, task.prepared.recipe
    shown = "the response alone" if model_input is None else model_input.model_dump_json(exclude_none=True)
    labels, unlabelled = len(task.prepared.rows), len(task.prepared.unlabelled or ())
    rows, cut = labels + len(task.prepared.taught.get(WHOLE, ())), task.prepared.cut
    values = {**recipe.model_dump(), "lr": round(recipe.rate(rows), 6)}
    if model_input is not None and model_input.windows:
        shown += (
            f"; {cut} of {rows} responses are longer than the backbone reads at once, and would be cut without windows"
        )
    taught = ""
    if unlabelled:
        taught = f"""\
- Taught from {labels} labels and {unlabelled} unlabelled answers, and from {rows - labels - unlabelled} that were made
  of these and of the reference: a comparison with the reference gives them a probability of each level.
"""
    backbone = Path(plan.base_model).name if Path(plan.base_model).exists() else plan.base_model
    return f"""\
{taught}- LoRA adapter and head on the frozen backbone {backbone}; sites {plan.sites}.
- The model sees {shown}.
- Recipe: {", ".join(f"{name} {value}" for name, value in values.items())}.
- An epoch reads {task.prepared.epoch_tokens:,} tokens.
- Seed {plan.seed}."""


def _agreement(agreement: CrossValidated, folds: int) -> str:
    if not agreement.figures:
        return "No folds were trained, so nothing is known."
    together = "near copies together" if agreement.students is None else "near copies and each student's together"
    notes = [
        f"Each response was scored by an adapter that had not seen it ({folds} folds, {together}).",
        *agreement.notes,
    ]
    if agreement.students is not None:
        notes.append(f"Intervals are of {agreement.students} students.")
    lines = [
        " ".join(notes),
        "",
        f"| of {agreement.rows} responses | with 95 % interval |",
        "|---|---|",
        *(f"| {title} | {shown(figure, 0, digits=3)} |" for title, figure in agreement.figures.items()),
    ]
    return "\n".join(lines)


def _limits(check: TaskCheck) -> str:
    few = ", ".join(str(level) for level, count in enumerate(check.levels) if 0 < count < _FEW)
    without, rare = (", ".join(map(str, levels)) for levels in (check.without_rows, check.rare))
    lines = [
        "Scores of responses unlike those above (another population, another language, attempts to deceive) are not "
        "backed by these figures.",
        "The level comes from the text alone. Drawings, formulas and attachments are not seen.",
        f"No response had level {without}: such levels are never learned." if without else "",
        f"Fewer than {_FEW} responses had level {few}: the figures say little about them." if few else "",
        f"Level {rare} has fewer students or texts than there are folds: some adapters hardly saw it." if rare else "",
        f"{check.conflicts} texts have more than one human level." if check.conflicts else "",
    ]
    return "\n".join(f"- {line}" for line in lines if line)
