"""The command `scoremux`: finds its subcommands through the entry-point group `scoremux.commands`."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from platform import python_version
from typing import TYPE_CHECKING, Any

from scoremux_client.errors import ScoremuxError
from scoremux_files.installed import release

if TYPE_CHECKING:
    import typer

_MODULES = {
    "cli": "typer rich pyarrow pydantic tomli",
    "assess": "jinja2 markupsafe",
    "export": "torch transformers peft onnxscript",
    "serve": "pytriton onnxruntime openvino ml_dtypes prometheus_client psutil safetensors tokenizers",
    "ray": "ray",
}
"""Extra → modules that it brings and that may be missing."""

_GROUPS = {
    "Try": ("demo",),
    "Build": ("sample", "train", "export", "tasks"),
    "Serve": ("serve", "api", "selftest", "tune"),
    "Score": ("ask", "score"),
    "Judge": ("evaluate", "report", "compare", "calibrate", "review"),
    "Operate": ("watch", "dossier", "tokens", "front-door", "files"),
}
_OTHER = "More"
_OF_DESK = ("api", "review")
"""Commands of the distribution scoremux-desk."""

_ANY_WORDS = {"ignore_unknown_options": True, "allow_extra_args": True}

_BOXED_WIDTH = 80
"""On a narrower terminal, the boxes of typer's help would cut names of options; plain help folds."""

_FOLDER_OPTIONS = ("--for", "--adapters")
"""Options that take folders, as many as follow: `--for adapters/*`."""


def main() -> None:
    """Run; an error of ours becomes one line on standard error and exit status 2."""
    if shutil.get_terminal_size().columns < _BOXED_WIDTH:
        os.environ.setdefault("TYPER_USE_RICH", "0")
    try:
        app = build(sys.argv[1:])
        if option := repeated(app, sys.argv[1:]):
            sys.exit(_fail(f"{option} is given twice, and takes one value"))
        app(spread(sys.argv[1:]), prog_name="scoremux")
    except ScoremuxError as error:
        sys.exit(_fail(str(error)))
    except ModuleNotFoundError as error:
        line = missing(error)
        if line is None:
            raise
        sys.exit(_fail(line))


def build(words: Sequence[str] = ()) -> typer.Typer:
    """Return the application with every registered subcommand, in groups; with one, if `words` begin with it."""
    import typer
    from typer.core import TyperGroup

    class InOrder(TyperGroup):
        """Lists commands in the order of `_GROUPS`, the others after them."""

        def list_commands(self, _context: Any) -> list[str]:
            return sorted(self.commands, key=lambda name: (order.get(name, len(order)), name))

    group_of = {name: group for group, names in _GROUPS.items() for name in names}
    order = {name: place for place, name in enumerate(group_of)}

    def print_version(wants_version: bool) -> None:
        if wants_version:
            typer.echo(f"{release()}, Python {python_version()}")
            raise typer.Exit

    def about(
        _version: bool = typer.Option(
            False, "--version", callback=print_version, is_eager=True, help="Print the version."
        ),
    ) -> None:
        """Score student answers for many tasks in one mixed batch."""

    names = {"help_option_names": ["-h", "--help"]}
    app = typer.Typer(cls=InOrder, no_args_is_help=True, pretty_exceptions_enable=False, context_settings=names)
    app.callback()(about)
    entries = () if list(words) == ["--version"] else tuple(entry_points(group="scoremux.commands"))
    named = [entry for entry in entries if list(words[:1]) == [entry.name]]
    for entry in named or entries:
        _register(app, entry, group_of.get(entry.name, _OTHER))
    if not named:
        for name in sorted({*_OF_DESK} - {entry.name for entry in entries}):
            app.command(name, hidden=True, context_settings=_ANY_WORDS)(_not_installed)
    return app


def spread(words: Sequence[str]) -> list[str]:
    """Return a command line for click, whose options take one value each: `--for A B` becomes `--for A --for B`."""
    line: list[str] = []
    option = ""
    for word in words:
        if word.startswith("-"):
            option = word if word in _FOLDER_OPTIONS else ""
        elif option and line[-1] != option:
            line.append(option)
        line.append(word)
    return line


def repeated(app: typer.Typer, words: Sequence[str]) -> str | None:
    """Return an option that a command line has twice and that takes one value, None if there is none.

    Click takes the last of such values, as if the others had not been there.
    """
    from typer.main import get_command

    command: Any = get_command(app)
    rest = [*words]
    while rest and rest[0] in getattr(command, "commands", ()):
        command = command.commands[rest.pop(0)]
    given = Counter(word.partition("=")[0] for word in rest if word.startswith("--"))
    single = (p for p in command.params if not (getattr(p, "multiple", True) or getattr(p, "is_flag", True)))
    return next((name for p in single for name in p.opts if given[name] > 1), None)


def missing(error: ModuleNotFoundError) -> str | None:
    """Return the line that brings a missing module, None if no extra does."""
    module = (error.name or "").partition(".")[0]
    extra = next((extra for extra, modules in _MODULES.items() if module in modules.split()), None)
    return None if extra is None else f"this command needs {error.name}: pip install 'scoremux[{extra}]'"


def _register(app: typer.Typer, entry: EntryPoint, group: str) -> None:
    import typer

    try:
        command, settings = entry.load(), None
    except ModuleNotFoundError as error:
        command, settings = _unavailable(error), _ANY_WORDS
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=entry.name, rich_help_panel=group)
    else:
        app.command(entry.name, rich_help_panel=group, context_settings=settings)(command)


def _not_installed() -> None:
    """Say which distribution brings the command."""
    raise ScoremuxError("this command is in scoremux-desk: pip install . ./desk in a checkout")


def _unavailable(error: ModuleNotFoundError) -> Callable[[], Any]:
    """Return a command that says which extra brings it."""

    def command() -> None:
        raise error

    command.__doc__ = (missing(error) or str(error)).replace("[", r"\[")  # the help is Rich's markup
    return command


def _fail(message: str) -> int:
    print(f"scoremux: {message}", file=sys.stderr)
    return 2
