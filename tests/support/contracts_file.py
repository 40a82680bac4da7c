"""The contracts of this version in one file: names and types that users depend on.

    python tests/support/contracts_file.py > tests/upgrade/VERSION/contracts.json

`tests/packaging/test_contracts.py` compares the contracts of the code with the newest of these files.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import fields as fields_of
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

import typer
from click import Context
from pydantic import BaseModel

import scoremux
import scoremux_client
import scoremux_engine
from making import ROOT
from scoremux.app import build
from scoremux_batch.parts import PLACED
from scoremux_client import contract
from scoremux_client.frames import COLUMNS as FRAMES
from scoremux_decide.policy import ScoringPolicy
from scoremux_desk.desk_policy import DeskPolicy
from scoremux_desk.exports import FINAL, LABELLED, PAPERS
from scoremux_engine.backend.metrics import ALL
from scoremux_evidence.show.figure_tables import SCHEMA as FIGURES
from scoremux_server.front_door.config import FrontDoorConfig
from scoremux_server.profile import Profile
from scoremux_server.supervision.health import Health
from scoremux_train.output import SCHEMA as PREDICTIONS
from scoremux_train.recipe import Plan

Contracts = dict[str, dict[str, str]]
"""Kind of contract → name → type; empty where a name has none."""

KEYS: dict[str, type[BaseModel]] = {
    "profile": Profile,
    "front door": FrontDoorConfig,
    "policy": ScoringPolicy,
    "policy, review": DeskPolicy,
    "train.toml": Plan,
}
COLUMNS = {"score": PLACED, "final": FINAL, "labelled": LABELLED, "papers": PAPERS, "predictions": PREDICTIONS,
           "report": FIGURES}  # fmt: skip
BRIDGE: dict[str, str] = {
    "scoremux_decide.total": "Total",
    "scoremux_evidence.rows": "fold",
    "scoremux_evidence.figures.level_columns": "figures_by_cell",
    "scoremux_batch.jobs": "ForPeople JobFolder Origin alerts_of scored_rows texts_of",
    "scoremux_client": (
        "AsyncScoringClient BusyError DeadlineError FakeTransport NO_RETRIES RejectedError Response "
        "Retries Scored ScoringClient Status Transport TransportError UnavailableError connect "
        "served_tasks"
    ),
    "scoremux_client.audit_lines": "KEEP_LOGS LEAST_DAYS erase_digests text_digest",
    "scoremux_client.contract": ("CONDITION_CODES GRANT_HEADER MAX_BATCH_ROWS NOBODY_CAN Reason TASK_ID_PATTERN TOTAL"),
    "scoremux_engine.scoring.permission": "Grant Permissions",
    "scoremux_files": ("InputError ScoremuxError first_of parsing read_key reading release replacing writing"),
    "scoremux_files.row_files": ("cell_text check_kept chunks read_rows whole_number write_rows"),
    "scoremux_files.settings": "parse_file read_json read_table",
    "scoremux_files.terminal": "print_table printable takes",
    "scoremux_server.front_door.access_tokens": "AccessTokenFile",
}
"""What the desk uses of scoremux, by module: names that programs of others may use as well."""

OPENAPI = next(ROOT.glob("*/scoremux_desk/api/openapi.json"))
_METHODS = ("get", "post", "put", "delete")


def contracts() -> Contracts:
    made: Contracts = {"tensors": _tensors(), "statuses": dict.fromkeys(map(str, contract.Status), "")}
    made["routes"] = {reason.route: "" for reason in contract.Reason} | {contract.MACHINE: ""}
    made["condition codes"] = dict(contract.CONDITION_CODES)
    made["request parameters"] = {contract.DEADLINE_MS: "int", contract.BATCH: "bool"}
    made["operations"], made["schemas"] = _openapi(json.loads(OPENAPI.read_text(encoding="utf-8")))
    made["metrics"] = _metrics()
    made["options"], made["exit statuses"], made["deprecated"] = _options(), _exit_statuses(), _deprecated()
    for name, model in KEYS.items():
        made[f"keys: {name}"] = dict(_keys(model))
    for name, schema in COLUMNS.items():
        made[f"columns: {name}"] = {field.name: str(field.type) for field in schema}
    made["columns: data frames"] = dict.fromkeys(FRAMES, "")
    made["Python, desk"] = {f"{module}.{name}": "" for module, names in BRIDGE.items() for name in names.split()}
    public = (*dir(scoremux), *scoremux_client.__all__, *scoremux_engine.__all__)
    made["Python"] = dict.fromkeys(public, "")
    return {kind: dict(sorted(names.items())) for kind, names in sorted(made.items())}


def text_of(made: Contracts) -> str:
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def broken(before: Contracts, now: Contracts) -> list[str]:
    """Return what was there before and is gone or has another type, such as ``options: scoremux score --retry``."""
    return [
        f"{kind}: {name}"
        for kind, names in before.items()
        for name, type_name in names.items()
        if now.get(kind, {}).get(name) != type_name
    ]


def _tensors() -> dict[str, str]:
    tensors = (*contract.INPUTS, *contract.OUTPUTS, *contract.ON_REQUEST)
    return {tensor.name: f"{tensor.datatype} {list(tensor.shape)}" for tensor in tensors}


def _openapi(described: Any) -> tuple[dict[str, str], dict[str, str]]:
    operations = {f"{m.upper()} {path}": "" for path, at in described["paths"].items() for m in at if m in _METHODS}
    schemas: dict[str, str] = {}
    for name, schema in described["components"]["schemas"].items():
        needed = schema.get("required", ())
        for field, shape in schema.get("properties", {}).items():
            parts = shape.get("anyOf", [shape])
            kinds = [part.get("type") or part.get("$ref", "").rpartition("/")[2] for part in parts]
            schemas[f"{name}.{field}"] = " or ".join(map(str, kinds)) + (", required" if field in needed else "")
    return operations, schemas


def _metrics() -> dict[str, str]:
    from prometheus_client.parser import text_string_to_metric_families

    made = {metric.name: f"{metric.kind.lower()} ({', '.join(metric.labels)})" for metric in ALL}
    for family in text_string_to_metric_families(Health().exposition().decode()):
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        made[family.name] = f"{family.type} ({', '.join(labels)})"
    return made


def _options() -> dict[str, str]:
    options: dict[str, str] = {}
    command = typer.main.get_command(build())
    for path, under in _under(command, Context(command, info_name="scoremux")):
        options[path] = ""
        for parameter in under.params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                options[f"{path} {parameter.opts[-1]}"] = _kind(parameter)
    return options


def _kind(option: Any) -> str:
    if option.is_flag:
        return "flag"
    return "repeatable" if option.multiple else "one value"


def _exit_statuses() -> dict[str, str]:
    """Return the constants that commands end with: ``REJECTED_STATUS, ALERT_STATUS = 3, 4``."""
    statuses: dict[str, str] = {}
    for path in ROOT.glob("*/scoremux_*/**/*.py"):
        for line in re.findall(r"^[A-Z_, ]+_STATUS = [\d, ]+$", path.read_text(encoding="utf-8"), re.MULTILINE):
            names, _, values = line.partition(" = ")
            statuses.update(zip(names.split(", "), values.split(", "), strict=True))
    return statuses


def _deprecated() -> dict[str, str]:
    """Return the version that ends each name that warns: ``deprecated("NAME", "REPLACEMENT", ends="VERSION")``."""
    calls = r'deprecated\("([^"]+)", "[^"]+", ends="([\d.]+)"\)'
    code = (path.read_text(encoding="utf-8") for path in ROOT.glob("*/scoremux_*/**/*.py"))
    return dict(found for text in code for found in re.findall(calls, text))


def _under(command: Any, context: Context) -> Iterator[tuple[str, Any]]:
    yield context.command_path, command
    for name, under in getattr(command, "commands", {}).items():
        yield from _under(under, Context(under, parent=context, info_name=name))


def _keys(model: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """Yield the keys of a table of settings and of the tables in it."""
    names = [field.name for field in fields_of(model)] if is_dataclass(model) else list(model.model_fields)
    hints = get_type_hints(model)
    for name in names:
        tables = [part for part in _parts(hints[name]) if is_dataclass(part) or _is_model(part)]
        yield f"{before}{name}", "table" if tables else _name(hints[name])
        for table in tables:
            yield from _keys(table, f"{before}{name}.")


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _parts(hint: Any) -> Iterator[Any]:
    yield hint
    for part in get_args(hint):
        yield from _parts(part)


def _is_model(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, BaseModel)


if __name__ == "__main__":
    sys.stdout.write(text_of(contracts()))
