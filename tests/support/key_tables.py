"""The tables of keys in engine/README.md: `python tests/support/key_tables.py` writes them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from scoremux_server.front_door.config import FrontDoorConfig
from scoremux_server.profile import Profile

COMMAND, END = "python tests/support/key_tables.py", "<!-- end of keys -->"
TABLES: dict[str, type[BaseModel]] = {"keys": Profile, "front door's keys": FrontDoorConfig}
"""What a table's first mark begins with → the model whose keys it lists."""

PAGE = Path(__file__).resolve().parents[2] / "engine" / "README.md"


def table(model: type[BaseModel]) -> str:
    """Return every key with its values, default and meaning, as a Markdown table."""
    lines = ["| key | values | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        lines.append(f"| `{name}` | {_values(field.annotation)} | {_default(field)} | {field.description} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """Return the page with the current tables between their marks."""
    for name, model in TABLES.items():
        start = f"<!-- {name}: {COMMAND} -->"
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(END)
        text = f"{before}{start}\n\n{table(model)}\n\n{END}{after}"
    return text


def _values(annotation: Any) -> str:
    choices = get_args(annotation)
    if choices and isinstance(choices[0], str):
        return ", ".join(f"`{choice}`" for choice in choices)
    if choices and choices[-1] is Ellipsis:
        return "tables"
    kind = choices[0] if choices else annotation
    return "path" if kind is Path else str(kind.__name__)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    if field.default in (None, (), ""):
        return "none"
    shown = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
    return f"`{shown}`" if shown else '`""`'


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
