"""The command `scoremux`: finds its subcommands through the entry-point group `scoremux.commands`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from scoremux_client.errors import ScoremuxError

if TYPE_CHECKING:
    import typer

_EXTRA_OF = {
    "typer": "cli",
    "rich": "cli",
    "pyarrow": "cli",
    "jinja2": "assess",
    "markupsafe": "assess",
    "torch": "export",
    "transformers": "export",
    "peft": "export",
    "onnx": "export",
    "onnxscript": "export",
    "pytriton": "serve",
    "onnxruntime": "serve",
    "openvino": "serve",
    "ml_dtypes": "serve",
    "prometheus_client": "serve",
    "psutil": "serve",
    "pydantic": "serve",
    "safetensors": "serve",
    "tokenizers": "serve",
    "ray": "ray",
    "sqlalchemy": "review",
    "starlette": "review",
    "argon2": "review",
    "uvicorn": "review",
    "psycopg": "review",
    "python_multipart": "review",
}
"""Module that may be missing → the extra that brings it."""

_GROUPS = {
    "Build": ("train", "export", "tasks"),
    "Serve": ("serve", "selftest", "tune"),
    "Score": ("score",),
    "Judge": ("evaluate", "report", "compare", "calibrate", "review"),
    "Operate": ("tokens", "front-door"),
}
_OTHER = "More"

_OF_MANY = ("--for", "--adapters")
"""Options that take folders, as many as follow: `--for adapters/*`."""

_EXAMPLES = {
    "export": "export backbone MODEL --for ADAPTERS --out REPO",
    "export backbone": "export backbone MODEL --for ADAPTERS --out REPO",
    "export plan": "export plan REPO --precision float16",
    "export verify": "export verify REPO --data labelled.csv",
    "front-door": "front-door door.toml",
    "review": "review scored --tasks REPO/store --database reviews.db",
    "tasks": "tasks add adapters --store REPO/store",
    "tasks add": "tasks add adapters --store REPO/store",
    "tasks diff": "tasks diff en-6.3-ipp --store REPO/store",
    "tasks export": "tasks export en-6.3-ipp --store REPO/store --out tasks.tar",
    "tasks gc": "tasks gc --store REPO/store --keep-days 30 --dry-run",
    "tasks history": "tasks history en-6.3-ipp --store REPO/store",
    "tasks import": "tasks import tasks.tar --store REPO/store",
    "tasks list": "tasks list --store REPO/store --url localhost:8001",
    "tasks pin": "tasks pin en-6.3-ipp@1f3a --store REPO/store",
    "tasks retire": "tasks retire en-6.3-ipp --store REPO/store",
    "tasks rollback": "tasks rollback en-6.3-ipp --store REPO/store",
    "tasks show": "tasks show en-6.3-ipp --store REPO/store",
    "tasks verify": "tasks verify --store REPO/store",
    "tokens": "tokens add district-7 --tokens tokens.json --tasks 'bio-*'",
    "tokens add": "tokens add district-7 --tokens tokens.json --tasks 'bio-*'",
    "tokens list": "tokens list --tokens tokens.json",
    "tokens revoke": "tokens revoke district-7 --tokens tokens.json",
}
"""Command → an example for its help, without the leading `scoremux`; for those whose docstring has none."""


def main() -> None:
    """Run; an error of ours becomes one line on standard error and exit status 2."""
    try:
        build(sys.argv[1:])(spread(sys.argv[1:]), prog_name="scoremux")
    except ScoremuxError as error:
        sys.exit(_fail(str(error)))
    except ModuleNotFoundError as error:
        line = missing(error)
        if line is None:
            raise
        sys.exit(_fail(line))


def build(words: Sequence[str] = ()) -> typer.Typer:
    """Return the application with every registered subcommand, in groups.

    Args:
        words: of the command line; if they begin with a command, it alone is loaded.
    """
    import typer
    from typer.core import TyperGroup

    class InOrder(TyperGroup):
        """Lists commands in the order of `_GROUPS`, the others after them."""

        def list_commands(self, _context: Any) -> list[str]:
            return sorted(self.commands, key=lambda name: (order.get(name, len(order)), name))

    group_of = {name: group for group, names in _GROUPS.items() for name in names}
    order = {name: place for place, name in enumerate(group_of)}
    app = typer.Typer(cls=InOrder, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_about)
    entries = entry_points(group="scoremux.commands")
    named = [entry for entry in entries if list(words[:1]) == [entry.name]]
    for entry in named or entries:
        _register(app, entry, group_of.get(entry.name, _OTHER))
    return app


def spread(words: Sequence[str]) -> list[str]:
    """Return a command line for click, whose options take one value each: `--for A B` becomes `--for A --for B`."""
    spread_out: list[str] = []
    option = ""
    for word in words:
        if word.startswith("-"):
            option = word if word in _OF_MANY else ""
        elif option and spread_out[-1] != option:
            spread_out.append(option)
        spread_out.append(word)
    return spread_out


def missing(error: ModuleNotFoundError) -> str | None:
    """Return the line that brings a missing module, None if no extra does."""
    extra = _EXTRA_OF.get((error.name or "").partition(".")[0])
    return None if extra is None else f"this command needs {error.name}: pip install 'scoremux[{extra}]'"


def _about() -> None:
    """Score student answers for many tasks in one mixed batch."""


def _register(app: typer.Typer, entry: EntryPoint, group: str) -> None:
    import typer

    try:
        command = entry.load()
    except ModuleNotFoundError as error:
        command = _unavailable(error)
    if isinstance(command, typer.Typer):
        for one in command.registered_commands:
            name = one.name or (one.callback.__name__.replace("_", "-") if one.callback else "")
            one.epilog = _example(f"{entry.name} {name}", one.callback)
        app.add_typer(command, name=entry.name, rich_help_panel=group, epilog=_example(entry.name))
    else:
        app.command(entry.name, rich_help_panel=group, epilog=_example(entry.name, command))(command)


def _unavailable(error: ModuleNotFoundError) -> Callable[[], Any]:
    """Return a command that says which extra brings it."""

    def command() -> None:
        raise error

    command.__doc__ = missing(error) or str(error)
    return command


def _example(command: str, function: Callable[..., Any] | None = None) -> str | None:
    """Return the example of a command whose docstring has none."""
    if command not in _EXAMPLES or (function and "Example:" in (function.__doc__ or "")):
        return None
    return f"Example: scoremux {_EXAMPLES[command]}"


def _fail(message: str) -> int:
    print(f"scoremux: {message}", file=sys.stderr)
    return 2
