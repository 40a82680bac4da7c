"""The model repository that Triton is started on: hand-written configurations, completed with this run's parameters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from scoremux_engine.runners.choose import REFERENCE, RunnerChoice
from scoremux_server.errors import SetupError

SCORER = "scorer"


def templates() -> Path:
    """Return the folder of the hand-written models: inside the package, or at the root of a checkout."""
    here = Path(__file__).resolve()
    for folder in (here.parent / "model_repository", here.parents[2] / "model_repository"):
        if (folder / SCORER / "config.pbtxt").is_file():
            return folder
    raise SetupError("the model_repository templates are missing; install scoremux again")


def assemble(target: Path, repository: Path, store: Path, runner: RunnerChoice = REFERENCE) -> None:
    """Write the model `scorer` into `target`, pointing at the backbone in `repository` and at `store`.

    Raises SetupError where there is no backbone or no store yet.
    """
    if not (repository / "backbone" / "1" / "backbone.json").is_file():
        raise SetupError(f"{repository} holds no backbone: run `scoremux export backbone MODEL --out {repository}`")
    if not (store / "manifest.json").is_file():
        raise SetupError(f"{store} holds no tasks: run `scoremux tasks add DIR… --store {store}`")
    source = templates() / SCORER
    shutil.copytree(source, target / SCORER, ignore=shutil.ignore_patterns("__pycache__"))
    parameters = {
        "repository": str(repository.resolve()),
        "store": str(store.resolve()),
        "runner": runner.name,
        "device": runner.device,
        "precision": runner.precision,
        "threads": str(runner.threads or 0),
    }
    with (target / SCORER / "config.pbtxt").open("a", encoding="utf-8") as file:
        file.writelines(f"\n{_parameter(name, value)}" for name, value in parameters.items())
        file.write("\n")


def _parameter(name: str, value: str) -> str:
    # Text-format strings escape quotes, backslashes and control characters as JSON does.
    return f"parameters {{ key: {json.dumps(name)} value {{ string_value: {json.dumps(value, ensure_ascii=False)} }} }}"
